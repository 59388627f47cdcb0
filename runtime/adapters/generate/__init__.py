"""A guest in the `generate` of transformers, given to it as `custom_generate`."""

"""Any causal language model of Hugging Face transformers as an engine."""

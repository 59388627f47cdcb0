"""Writes models of transformers as GGUF files."""

"""Prompts, from files or from any source of the datasets library."""

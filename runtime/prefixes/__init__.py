"""Beginnings of texts that were read once and are not read again."""

"""Measures a server under load: its requests with speculation against the same without."""

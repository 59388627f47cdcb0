"""Measurements of vLLM: its latency table, and its own speculation beside trees."""

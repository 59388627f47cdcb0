"""What the server counts, for Prometheus: vLLM's names with our prefix, and what is known of the trees."""

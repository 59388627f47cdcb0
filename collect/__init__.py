"""Runs the pair and records: traces, latency tables, benchmarks."""

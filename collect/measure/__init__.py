"""Measurements: latency tables, benchmarks, and checks of a device."""

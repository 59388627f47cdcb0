"""Learns a selector from traces; runs no language model."""

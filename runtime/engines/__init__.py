"""Engines: language models under our own decode loop."""

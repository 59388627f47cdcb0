"""Compares policies in one process, interleaved and paired by prompt."""

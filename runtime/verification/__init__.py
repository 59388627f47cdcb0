"""Lossless verification of a draft tree. One file per algorithm."""

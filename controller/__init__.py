"""Decides the shape of a draft tree; knows no language model."""

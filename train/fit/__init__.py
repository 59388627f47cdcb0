"""Fitting the selector, and its export."""

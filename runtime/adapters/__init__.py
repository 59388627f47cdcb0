"""Guests in the loops of other libraries; `engines` are models under our own loop."""

"""Proof of losslessness by enumeration: toy models, every draft of a growth rule, the distribution of the text."""

"""Proof of losslessness by enumeration: toy models, every draft of a growth rule, the law of the text."""

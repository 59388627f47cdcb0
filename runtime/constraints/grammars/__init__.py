"""Grammars that a text follows: from what a user writes to a mask of tokens at each place, by llguidance."""

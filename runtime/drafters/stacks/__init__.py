"""Stacks of drafters: a cheap one guesses ahead, and a drafter model reads what it guessed in one forward."""

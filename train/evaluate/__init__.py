"""How good a selector is, apart from replay."""

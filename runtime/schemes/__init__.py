"""Drafting schemes: how the children of a node are proposed."""

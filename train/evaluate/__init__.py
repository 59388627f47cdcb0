"""Measurements of a selector and of its drafter, other than replay."""

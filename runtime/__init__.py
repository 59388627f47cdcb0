"""Decodes: drafts, scores, verifies and commits, one step at a time."""

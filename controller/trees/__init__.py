"""Draft trees, their children, static shapes and limits."""

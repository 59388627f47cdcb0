"""The policies under comparison, with their settings."""

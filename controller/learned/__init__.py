"""The learned selector: its features, its network, and the scorer that asks it."""

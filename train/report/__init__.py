"""One page per training run: what the selector predicts, what it gains, and where it does not."""

"""From trace rows to training examples."""

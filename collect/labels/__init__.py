"""What both models say about a stored text: labels per position, and trees for replay."""

"""Both models read a generated text: labels per position, and trees for replay."""

"""treewright: learned draft trees for lossless speculative decoding."""

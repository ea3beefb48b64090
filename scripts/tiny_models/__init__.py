"""The tiny models: what they are, how each is trained, and how each is scored."""

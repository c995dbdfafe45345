"""A new kind of annotation, learned from a small set."""

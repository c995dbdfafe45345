"""Checkpoints without any training, and their words."""

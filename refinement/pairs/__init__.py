"""Kept labels as examples to train on."""

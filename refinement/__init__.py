"""Refinement: Florence-2 is trained on the kept labels, and what it says corrects them."""

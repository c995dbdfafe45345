"""Shapes and machinery of the data engine; knows no model and no rule."""

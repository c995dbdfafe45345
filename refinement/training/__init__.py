"""Trains Florence-2 on pairs."""

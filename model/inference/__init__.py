"""Sequences, windows and packs of them, and the predictor that computes them."""

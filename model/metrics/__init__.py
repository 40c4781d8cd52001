"""Losses and metrics of a labelled corpus."""

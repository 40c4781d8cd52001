"""Answered rows as a person sees them."""

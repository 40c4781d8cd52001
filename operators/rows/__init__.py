"""The tables that travel between operators."""

"""Gold columns."""

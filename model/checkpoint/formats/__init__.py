"""The formats in which weights are saved."""

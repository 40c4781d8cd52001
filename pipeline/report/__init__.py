"""The HTML page of an output or a preview."""

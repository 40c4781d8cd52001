"""What lies in a sink."""

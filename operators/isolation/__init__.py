"""Rows that end their worker."""

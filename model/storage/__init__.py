"""Stores through fsspec, redaction of secrets, and safe YAML."""

"""Access to files and stores: fsspec with retries, redaction of secrets, safe YAML, and the cache folder.

Any folder may import from `store`, `redact`, `safe_yaml` and `cache`.
"""

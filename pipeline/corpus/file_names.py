"""What the name of a file says of its format."""

# format -> endings of its files, before those of a compression
ENDINGS = {
    "jsonl": (".jsonl", ".ndjson"),
    "csv": (".csv",),
    "text": (".txt",),
    "arrow": (".arrow", ".arrows", ".feather"),
}


COMPRESSED = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}


DECLARED = ("jsonl", "csv")  # have no types of their own

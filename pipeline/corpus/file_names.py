"""The endings of file names, by format and by compression."""

# format -> endings of its files, before the ending of a compression
ENDINGS = {
    "jsonl": (".jsonl", ".ndjson"),
    "csv": (".csv",),
    "text": (".txt",),
    "arrow": (".arrow", ".arrows", ".feather"),
}
COMPRESSED = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}  # ending -> codec of Arrow
DECLARED = ("jsonl", "csv")  # formats without types, whose columns the user must declare

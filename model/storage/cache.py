"""The folder in which distilray keeps what it measured on this machine."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """DISTILRAY_CACHE, or else ours in the user's cache folder. Raises RuntimeError for a user without a home."""
    if ours := os.environ.get("DISTILRAY_CACHE"):
        return Path(ours)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "distilray"

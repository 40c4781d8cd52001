"""The folder in which distilray stores measurements of this machine."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return DISTILRAY_CACHE if it is set, or else the folder `distilray` in the user's cache folder.

    Raises RuntimeError for a user without a home.
    """
    if configured := os.environ.get("DISTILRAY_CACHE"):
        return Path(configured)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "distilray"

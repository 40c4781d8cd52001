"""The figures of a run as one line of its log, from which clients read them."""

import json
from collections.abc import Mapping
from typing import Any

_PREFIX = "distilray-result: "


def result_line(figures: Mapping[str, Any]) -> str:
    """Return the figures as one line. figures: plain data."""
    return _PREFIX + json.dumps(figures)


def read_result(line: str) -> dict[str, Any] | None:
    """Return the figures in a line that `result_line` made, or None for any other line."""
    if not line.startswith(_PREFIX):
        return None
    try:
        figures: dict[str, Any] = json.loads(line.removeprefix(_PREFIX))
    except ValueError:
        return None  # another program's line with the same prefix
    return figures

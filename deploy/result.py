"""The figures of a run as one line of its log, which is how they come back from a cluster."""

import json
from collections.abc import Mapping
from typing import Any

_MARK = "distilray-result: "


def result_line(figures: Mapping[str, Any]) -> str:
    """Plain data as one line."""
    return _MARK + json.dumps(figures)


def read_result(line: str) -> dict[str, Any] | None:
    """What `result_line` said; None of any other line."""
    if not line.startswith(_MARK):
        return None
    try:
        figures: dict[str, Any] = json.loads(line.removeprefix(_MARK))
    except ValueError:
        return None  # something else's line that begins alike
    return figures

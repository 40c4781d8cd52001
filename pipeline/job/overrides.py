"""Keys of a job that are set from the command line."""

import re
from collections.abc import Iterable
from typing import Any

from distilray.model.storage.safe_yaml import NOT_YAML, parse_yaml
from distilray.pipeline.errors import JobError


def overridden(raw: dict[str, Any], overrides: Iterable[str], allowed: str, says: str) -> dict[str, Any]:
    """Plain data with overrides of keys that match `allowed` (a regular expression). Raises JobError for others.

    says: what can be set, for the error.
    """
    for override in overrides:
        if not re.match(allowed, key := override.partition("=")[0]):
            raise JobError(f"--set {key}: only {says} can be set here")
        override_key(raw, override)
    return raw


def override_key(raw: dict[str, Any], override: str) -> None:
    """Sets one key, as `a.b=value`; a number in the path counts into a list. Raises JobError."""
    path, equals, value = override.partition("=")
    if not equals or not path:
        raise JobError(f"--set expects a.b=value, got {override.split('=', maxsplit=1)[0]!r}")
    *parents, last = path.split(".")
    node: Any = raw
    try:
        for key in parents:
            node = node[int(key)] if isinstance(node, list) else node.setdefault(key, {})
        node[int(last) if isinstance(node, list) else last] = parse_yaml(value)
    except (IndexError, *NOT_YAML):
        raise JobError(f"--set {path}: there is no such place in the job") from None

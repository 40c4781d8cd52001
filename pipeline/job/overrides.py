"""Keys of a job that are set on the command line."""

import re
from collections.abc import Iterable
from typing import Any

from distilray.model.storage.safe_yaml import NOT_YAML, parse_yaml
from distilray.pipeline.errors import JobError


def override_keys(raw: dict[str, Any], overrides: Iterable[str], allowed: str, allowed_text: str) -> dict[str, Any]:
    """Set the keys in `overrides` in plain data, and return the data.

    allowed: a regular expression that each key must match. allowed_text: the allowed keys in words, for the error.
    Raises JobError for any other key.
    """
    for override in overrides:
        if not re.match(allowed, key := override.partition("=")[0]):
            raise JobError(f"--set {key}: only {allowed_text} can be set here")
        override_key(raw, override)
    return raw


def override_key(raw: dict[str, Any], override: str) -> None:
    """Set one key in plain data.

    override: `a.b=value`. A number in the path is an index into a list. The value is YAML. Raises JobError if the path
    does not exist, or if the value is not YAML.
    """
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
        raise JobError(f"--set {path}: expected the path of a key of the job, and a value in YAML") from None

"""A job's file as plain data: YAML, or JSON if it ends in .json."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from distilray.model.storage.safe_yaml import NOT_YAML, parse_yaml
from distilray.pipeline.errors import JobError

_LONGEST = 2**18  # bytes


class _RefusedError(ValueError):
    """Says why, and quotes nothing."""


def read_job_file(path: Path) -> dict[str, Any]:
    """Raises JobError, which never quotes the file: its lines may hold a secret."""
    try:
        with path.open("rb") as file:
            data = file.read(_LONGEST + 1)
        if len(data) > _LONGEST:
            raise _RefusedError(f"expected at most {_LONGEST} bytes")
        raw = (_parse_json if path.suffix == ".json" else parse_yaml)(data.decode("utf-8"))
    except _RefusedError as error:
        raise JobError(f"cannot read job {path}: {error}") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        problem = re.sub("'.*'|\".*\"", "'...'", error.problem or "", flags=re.DOTALL)
        raise JobError(f"cannot read job {path}: line {line}: {problem}") from None
    except json.JSONDecodeError as error:
        raise JobError(f"cannot read job {path}: line {error.lineno}: {error.msg.partition(':')[0]}") from None
    except (OSError, *NOT_YAML) as error:
        raise JobError(f"cannot read job {path}: {type(error).__name__}") from None
    if not isinstance(raw, dict):
        raise JobError(f"{path}: expected keys source, tasks, sink, compute; got {type(raw).__name__}")
    return raw


def _parse_json(text: str) -> Any:
    """JSON's own values and no others; a key that is there twice is an error."""
    return json.loads(text, object_pairs_hook=_distinct, parse_constant=_no_number)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _RefusedError("a key is there twice in one object")
    return found


def _no_number(_: str) -> None:
    raise _RefusedError("NaN and Infinity are no JSON")

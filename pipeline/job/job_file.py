"""The reader of job files. A job file is YAML, or JSON if its name ends in .json."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from distilray.model.storage.safe_yaml import NOT_YAML, parse_yaml
from distilray.pipeline.errors import JobError

_MAX_BYTES = 2**18


class _RefusedError(ValueError):
    """A job file that is refused. The message contains no text of the file."""


def read_job_file(path: Path) -> dict[str, Any]:
    """Read a job file into plain data.

    Raises JobError if the file cannot be read. The error contains no text of the file, because it may hold a secret.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise _RefusedError(f"expected at most {_MAX_BYTES} bytes, got more")
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
        raise JobError(
            f"{path}: expected a mapping with the keys source, tasks, sink, compute; got {type(raw).__name__}"
        )
    return raw


def _parse_json(text: str) -> Any:
    """Parse strict JSON: without NaN and Infinity, and without duplicate keys."""
    return json.loads(text, object_pairs_hook=_object_without_duplicates, parse_constant=_refuse_constant)


def _object_without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise _RefusedError("a key occurs twice in one object")
    return values


def _refuse_constant(_: str) -> None:
    raise _RefusedError("NaN and Infinity are not JSON")

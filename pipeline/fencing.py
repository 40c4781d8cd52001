"""The newest run owns a sink: each puts a number, and stops when it sees that a newer one has come.

No clocks and no leases: a run that was killed is continued at once.
"""

import json
import os
import platform
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from distilray import __version__
from distilray.operators.storage import put_first
from distilray.pipeline.errors import FencedError
from distilray.pipeline.stored import RUNS_TODO, broken

_EVERY = 5.0  # seconds between two looks


@dataclass
class Fence:
    """A run's number in `folder`, and what it put there. others: the versions of earlier runs that had others."""

    fs: Any
    folder: str
    number: int
    record: bytes
    others: Sequence[Mapping[str, str]] = ()
    _looked: float = field(default=float("-inf"))

    def check(self, *, now: bool = False) -> None:
        """Raises FencedError if a newer run owns the sink. It looks every few seconds, or `now`."""
        if not now and time.monotonic() - self._looked < _EVERY:
            return
        self._looked = time.monotonic()
        newest = max(_numbers(self.fs, self.folder), default=0)
        try:
            there: bytes = self.fs.cat_file(_path(self.folder, max(newest, self.number)))
        except FileNotFoundError:
            raise FencedError(f"run {self.number} is gone from {self.folder}: somebody has emptied the sink") from None
        if there != self.record:  # its number is higher, or it is ours: not every store puts only once
            who = json.loads(there)
            raise FencedError(
                f"a newer run has taken over {self.folder.removesuffix('/_runs')}: run {newest} of process {who['pid']} on "
                f"{who['host']}, started {who['started']}; this one, run {self.number}, stops and leaves the rest to it"
            )


def versions() -> dict[str, str]:
    """What answers are made with here."""
    packages = ("ray", "torch", "tokenizers", "pyarrow")
    return {"distilray": __version__, "python": platform.python_version(), **{name: version(name) for name in packages}}


def take_over(fs: Any, root: str) -> Fence:
    """From now on this is the newest run of the sink at `root`. Raises JobError if the record of an earlier one is broken."""
    who = {
        "host": platform.node(),
        "pid": os.getpid(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "token": uuid.uuid4().hex,
        "versions": versions(),
    }
    record, folder = json.dumps(who).encode(), f"{root}/_runs"
    others = _other_versions(fs, folder)
    number = max(_numbers(fs, folder), default=0) + 1
    while not put_first(fs, _path(folder, number), record):
        number += 1
    return Fence(fs, folder, number, record, others)


def _other_versions(fs: Any, folder: str) -> list[Mapping[str, str]]:
    """Those of the runs in `folder` that are not ours, each once; before version 0.5 none were told."""
    with broken(folder, RUNS_TODO):
        found = [record.get("versions") for record in _records(fs, folder).values()]
    unlike = {json.dumps(each): each for each in found if each and each != versions()}
    return list(unlike.values())


def started(fs: Any, root: str) -> dict[int, datetime]:
    """When each run of a sink began, by its number. Raises ValueError, KeyError or TypeError for a record that is none."""
    records = _records(fs, f"{root}/_runs")
    return {number: datetime.fromisoformat(record["started"]) for number, record in records.items()}


def _records(fs: Any, folder: str) -> dict[int, dict[str, Any]]:
    return {number: json.loads(fs.cat_file(_path(folder, number))) for number in sorted(_numbers(fs, folder))}


def _numbers(fs: Any, folder: str) -> list[int]:
    fs.invalidate_cache(folder)
    try:
        names = [path.rsplit("/", 1)[-1].removesuffix(".json") for path in fs.ls(folder, detail=False)]
    except FileNotFoundError:
        return []
    return [int(name) for name in names if name.isdecimal()]


def _path(folder: str, number: int) -> str:
    return f"{folder}/{number:06d}.json"

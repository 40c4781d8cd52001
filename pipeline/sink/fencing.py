"""The newest run owns a sink: each puts a number, and stops when it sees that a newer one has come.

No clocks and no leases: a run that was killed is continued at once.
"""

import json
import logging
import os
import platform
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from distilray.model.errors import StoreError
from distilray.model.storage.store import explain
from distilray.operators.objects.object_store import write_if_absent
from distilray.pipeline.errors import FencedError
from distilray.pipeline.sink.plan_file import RUNS_ADVICE, as_job_error
from distilray.pipeline.sink.versions import versions

log = logging.getLogger(__name__)

_EVERY = 5.0  # seconds between two looks
_READERS = 16

Got = TypeVar("Got")


@dataclass
class Fence:
    """A run's number in `folder`, and what it put there. others: the versions of earlier runs that had others."""

    fs: Any
    folder: str
    number: int
    record: bytes
    other_versions: Sequence[Mapping[str, str]] = ()
    _looked: float = field(default=float("-inf"))

    def check(self, *, now: bool = False) -> None:
        """Raises FencedError if a newer run owns the sink. It looks every few seconds, or `now`."""
        if not now and time.monotonic() - self._looked < _EVERY:
            return
        self._looked = time.monotonic()
        newest = max(_numbers(self.fs, self.folder), default=0)
        path = _path(self.folder, max(newest, self.number))
        try:
            there: bytes = self.fs.cat_file(path)
        except FileNotFoundError:
            raise FencedError(
                f"run {self.number} stops: its record is gone, {path}, and nothing else says that the sink is its own; "
                "run the job again, which goes on from what is there"
            ) from None
        if there != self.record:  # its number is higher, or it is ours: not every store puts only once
            who = json.loads(there)
            raise FencedError(
                f"a newer run has taken over {self.folder.removesuffix('/_runs')}: run {newest} of process {who['pid']} on "
                f"{who['host']}, started {who['started']}; this one, run {self.number}, stops and leaves the rest to it"
            )


def take_over(fs: Any, root: str) -> Fence:
    """From now on this is the newest run of the sink at `root`. Raises StoreError."""
    ours = versions()
    who = {
        "host": platform.node(),
        "pid": os.getpid(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "token": uuid.uuid4().hex,
        "versions": ours,
    }
    record, folder = json.dumps(who).encode(), f"{root}/_runs"
    others = _other_versions(fs, folder, ours)
    number = max(_numbers(fs, folder), default=0) + 1
    while not write_if_absent(fs, _path(folder, number), record):
        number += 1
    return Fence(fs, folder, number, record, others)


def _other_versions(fs: Any, folder: str, ours: Mapping[str, str]) -> list[Mapping[str, str]]:
    """Those of the runs in `folder` that are not ours, each once; before version 0.5 none were told."""
    found = _records(fs, folder, _versions).values()
    unlike = {json.dumps(each): each for each in found if each and each != ours}
    return list(unlike.values())


def _versions(fs: Any, path: str) -> dict[str, str]:
    """Those that a record says; none, and a warning, if it is broken: no answer depends on it."""
    try:
        return dict(json.loads(fs.cat_file(path)).get("versions") or {})
    except StoreError:
        raise
    except Exception as error:
        log.warning("%s does not say with which versions an earlier run was made: %s", path, explain(error))
        return {}


def start_times(fs: Any, root: str) -> dict[int, datetime]:
    """When each run of a sink began, by its number. Raises JobError for a record that is none."""
    return _records(fs, f"{root}/_runs", _started)


def _started(fs: Any, path: str) -> datetime:
    with as_job_error(path, RUNS_ADVICE):
        return datetime.fromisoformat(json.loads(fs.cat_file(path))["started"])


def _records(fs: Any, folder: str, of: Callable[[Any, str], Got]) -> dict[int, Got]:
    """What `of` gives for the path of each record, by its number, in order."""
    numbers = sorted(_numbers(fs, folder))
    with ThreadPoolExecutor(_READERS) as pool:
        return dict(zip(numbers, pool.map(lambda number: of(fs, _path(folder, number)), numbers), strict=True))


def _numbers(fs: Any, folder: str) -> list[int]:
    fs.invalidate_cache(folder)
    try:
        names = [path.rsplit("/", 1)[-1].removesuffix(".json") for path in fs.ls(folder, detail=False)]
    except FileNotFoundError:
        return []
    return [int(name) for name in names if name.isdecimal()]


def _path(folder: str, number: int) -> str:
    return f"{folder}/{number:06d}.json"

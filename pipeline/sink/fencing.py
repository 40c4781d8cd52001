"""Fencing: only the newest run may go on writing to a sink.

Each run writes a record with the next number into _runs/, and stops when it finds a higher number. Fencing needs no
clocks and no leases, so a new run can continue at once where a killed run stopped.
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

_CHECK_SECONDS = 5.0  # between two checks
_READERS = 16

T = TypeVar("T")


@dataclass
class Fence:
    """The record of one run in the folder `_runs/` of a sink.

    folder: the folder `_runs/`. number: the number of the run. record: the bytes that the run wrote. other_versions:
    the versions of earlier runs, where they differ from those of this run.
    """

    fs: Any
    folder: str
    number: int
    record: bytes
    other_versions: Sequence[Mapping[str, str]] = ()
    _checked_at: float = field(default=float("-inf"))

    def check(self, *, now: bool = False) -> None:
        """Raise FencedError if a newer run owns the sink. Read the store only every few seconds, or always if `now`."""
        if not now and time.monotonic() - self._checked_at < _CHECK_SECONDS:
            return
        self._checked_at = time.monotonic()
        newest = max(_numbers(self.fs, self.folder), default=0)
        path = _path(self.folder, max(newest, self.number))
        try:
            record: bytes = self.fs.cat_file(path)
        except FileNotFoundError:
            raise FencedError(
                f"run {self.number} stops: its record {path} is missing, so it cannot know whether it still owns the "
                "sink; run the job again, which continues from the committed units"
            ) from None
        if record != self.record:  # a higher number, or the same one: some stores let two runs write the same object
            owner = json.loads(record)
            raise FencedError(
                f"a newer run has taken over {self.folder.removesuffix('/_runs')}: run {newest} of process "
                f"{owner['pid']} on {owner['host']}, started {owner['started']}; run {self.number} stops, and "
                "the newer run computes the remaining units"
            )


def take_over(fs: Any, root: str) -> Fence:
    """Make this process the newest run of the sink at `root`. Raises StoreError if the store fails."""
    current = versions()
    description = {
        "host": platform.node(),
        "pid": os.getpid(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "token": uuid.uuid4().hex,
        "versions": current,
    }
    record, folder = json.dumps(description).encode(), f"{root}/_runs"
    other_versions = _other_versions(fs, folder, current)
    number = max(_numbers(fs, folder), default=0) + 1
    while not write_if_absent(fs, _path(folder, number), record):
        number += 1
    return Fence(fs, folder, number, record, other_versions)


def _other_versions(fs: Any, folder: str, current: Mapping[str, str]) -> list[Mapping[str, str]]:
    """Return the distinct versions of the runs in `folder` that differ from `current`.

    Runs before version 0.5 recorded no versions and are left out.
    """
    recorded = _read_records(fs, folder, _read_versions).values()
    other = {json.dumps(each): each for each in recorded if each and each != current}
    return list(other.values())


def _read_versions(fs: Any, path: str) -> dict[str, str]:
    """Read the versions in a record. Return {} and log a warning if it is broken, because no answer depends on them."""
    try:
        return dict(json.loads(fs.cat_file(path)).get("versions") or {})
    except StoreError:
        raise
    except Exception as error:
        log.warning("cannot read the versions of an earlier run from %s: %s", path, explain(error))
        return {}


def start_times(fs: Any, root: str) -> dict[int, datetime]:
    """Read when each run of a sink started, by its number. Raises JobError if a record is broken."""
    return _read_records(fs, f"{root}/_runs", _read_start_time)


def _read_start_time(fs: Any, path: str) -> datetime:
    with as_job_error(path, RUNS_ADVICE):
        return datetime.fromisoformat(json.loads(fs.cat_file(path))["started"])


def _read_records(fs: Any, folder: str, read: Callable[[Any, str], T]) -> dict[int, T]:
    """Call `read` with the path of each record, and return the results by number of the run, in order."""
    numbers = sorted(_numbers(fs, folder))
    with ThreadPoolExecutor(_READERS) as pool:
        return dict(zip(numbers, pool.map(lambda number: read(fs, _path(folder, number)), numbers), strict=True))


def _numbers(fs: Any, folder: str) -> list[int]:
    fs.invalidate_cache(folder)
    try:
        names = [path.rsplit("/", 1)[-1].removesuffix(".json") for path in fs.ls(folder, detail=False)]
    except FileNotFoundError:
        return []
    return [int(name) for name in names if name.isdecimal()]


def _path(folder: str, number: int) -> str:
    return f"{folder}/{number:06d}.json"

"""Attempts at units, and the marks on the machine's disk that show whether an attempt ended its worker.

A worker writes a mark before it starts a stage of a unit, and removes it afterwards. If the worker's process ends in
between, the mark remains. The next attempt at that stage of the unit on the same machine finds it.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from distilray.model.storage.cache import cache_folder

log = logging.getLogger(__name__)

MAX_FAILED_ROWS = 10  # if so many rows fail and none succeeds, the rows are not the cause
_NO_MARK = (
    "cannot write the mark of an attempt, so a row that ends this worker will end the next worker, too: %s; "
    "set DISTILRAY_CACHE to a writable folder"
)


@dataclass(frozen=True)
class Isolation:
    """The limits on rows that make a worker fail, and the marks of its attempts.

    run: a name that distinguishes the units of this output from those of other outputs. deadline: the seconds without
    progress after which a worker ends its process. None means never. max_failed_rows: if so many rows raise and no
    other row succeeds, the unit raises, too. None means never.
    """

    run: str
    deadline: float | None = None
    max_failed_rows: int | None = MAX_FAILED_ROWS

    @contextmanager
    def attempt(self, stage: str, unit: str) -> Iterator[bool]:
        """Mark an attempt at a unit, and yield whether an earlier attempt on this machine never ended.

        An attempt ends with success or with an exception. A lost device, or the end of the process, does not end the
        attempt, so that its mark remains.
        """
        mark = _mark_path(self.run, f"{stage}-{unit}")
        crashed = False
        try:
            if mark is not None:
                crashed = _writer_is_gone(mark)
                mark.parent.mkdir(parents=True, exist_ok=True)
                mark.write_text(_process_identity(os.getpid()))
        except OSError as error:
            log.warning(_NO_MARK, error)
        try:
            yield crashed
        except torch.AcceleratorError:
            raise
        except BaseException:
            _remove_mark(mark)
            raise
        _remove_mark(mark)


def _writer_is_gone(mark: Path) -> bool:
    """Return whether the mark exists and the process that wrote it has ended.

    A mark of this process counts, too: this process has no other attempt in progress.
    """
    try:
        writer = mark.read_text(errors="replace")
    except FileNotFoundError:
        return False
    pid = writer.partition(" ")[0]
    return not pid.isdecimal() or int(pid) == os.getpid() or _process_identity(int(pid)) != writer


def _process_identity(pid: int) -> str:
    """Return a text that identifies a process even if the system reuses its number. Return "" for a zombie process."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return f"{pid}" if pid == os.getpid() else ""
    return "" if state == "Z" else f"{pid} {fields[18]}"  # the time of its start, in clock ticks


def _mark_path(run: str, name: str) -> Path | None:
    try:
        return cache_folder() / "begun" / run / name
    except RuntimeError as error:  # a user without a home
        log.warning(_NO_MARK, error)
        return None


def _remove_mark(mark: Path | None) -> None:
    if mark is not None:
        with suppress(OSError):
            mark.unlink(missing_ok=True)

"""Rows over time, from when the store says that each unit was put."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from distilray.model.arrays import Ints
from distilray.pipeline.report.charts import Chart, Doubles, bar_chart, duration

_COMMITS_A_BAR, _BARS = 3, 48  # at least, and at most
_KEYS = ("LastModified", "mtime", "updated", "last_modified")  # where S3, a disk, Google and Azure have it


@dataclass(frozen=True)
class RunRate:
    """A run that committed something. seconds: from its start to its last commit; rows: answered or dead, of whole units."""

    number: int
    started: datetime
    units: int
    rows: int
    seconds: float

    @property
    def rate(self) -> float:
        """Rows a second."""
        return self.rows / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class RowRates:
    """chart: None for too few commits to tell a rate from."""

    runs: tuple[RunRate, ...]
    chart: Chart | None


def row_rates(
    infos: Mapping[str, Mapping[str, Any]], rows: Mapping[str, int], starts: Mapping[int, datetime]
) -> RowRates | None:
    """infos: what the store says of each unit's object; rows: of each unit; starts: of each run, by its number.

    None where the store tells no times.
    """
    times = [_when(info) for info in infos.values()]
    known = [time for time in times if time is not None]
    if not starts or not known or len(known) < len(times):
        return None
    starts = dict(sorted(starts.items(), key=lambda item: item[1]))  # clocks of two hosts may differ
    when, size = np.array(known), np.array([rows[name] for name in infos], dtype=np.int64)
    order = np.argsort(when, kind="stable")
    when, size = when[order], size[order]
    began = np.array([start.timestamp() for start in starts.values()])
    whose = np.maximum(np.searchsorted(began, when, side="right") - 1, 0)
    worked = tuple(_worked(starts, when, size, whose))
    return RowRates(worked, _chart(_at_work(worked, when, whose, list(starts)), size))


def _when(info: Mapping[str, Any]) -> float | None:
    """Seconds since 1970."""
    found = next((info[key] for key in _KEYS if info.get(key) is not None), None)
    if isinstance(found, str):
        found = datetime.fromisoformat(found)
    if isinstance(found, datetime):
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    return float(found) if found is not None else None


def _worked(starts: Mapping[int, datetime], when: Doubles, size: Ints, whose: Ints) -> Iterator[RunRate]:
    for i, (number, start) in enumerate(starts.items()):
        mine = whose == i
        if mine.any():
            seconds = max(float(when[mine].max()) - start.timestamp(), 0.0)
            yield RunRate(number, start, int(mine.sum()), int(size[mine].sum()), seconds)


def _at_work(runs: tuple[RunRate, ...], when: Doubles, whose: Ints, numbers: list[int]) -> Doubles:
    """When each unit was put, in seconds of work: what lies between two runs is left out."""
    passed, before = np.zeros_like(when), 0.0
    for run in runs:
        mine = whose == numbers.index(run.number)
        passed[mine] = before + np.maximum(when[mine] - run.started.timestamp(), 0)
        before += run.seconds
    return passed


def _chart(passed: Doubles, size: Ints) -> Chart | None:
    bars = min(len(passed) // _COMMITS_A_BAR, _BARS)
    span = float(passed.max())
    if bars < 2 or not span:
        return None
    rows, edges = np.histogram(passed, bars, (0.0, span), weights=size)
    rates = rows / (span / bars)
    return bar_chart("Rows a second over the time at work", rates, [duration(edge) for edge in edges], "rows a second")

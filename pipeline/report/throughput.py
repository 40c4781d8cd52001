"""Rows per second over time, from the time at which the store wrote each unit's object."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from distilray.model.arrays import Ints
from distilray.pipeline.report.charts import Chart, Doubles, bar_chart, duration

_MIN_COMMITS_PER_BAR, _MAX_BARS = 3, 48
_TIME_KEYS = ("LastModified", "mtime", "updated", "last_modified")  # of S3, a local disk, Google and Azure


@dataclass(frozen=True)
class RunRate:
    """A run that committed a unit.

    units: the units that it committed. rows: all rows of these units, answered or dead letters. seconds: the time from
    its start to its last commit.
    """

    number: int
    started: datetime
    units: int
    rows: int
    seconds: float

    @property
    def rate(self) -> float:
        """Rows per second."""
        return self.rows / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class RowRates:
    """The rates of all runs. chart: the chart of the rate over time, None if there are too few commits for a chart."""

    runs: tuple[RunRate, ...]
    chart: Chart | None


def row_rates(
    infos: Mapping[str, Mapping[str, Any]], rows: Mapping[str, int], starts: Mapping[int, datetime]
) -> RowRates | None:
    """Return the rates of the runs, or None if the store reports no times.

    infos: the store's metadata of each unit's object, by unit name. rows: the number of rows of each unit. starts: the
    start time of each run, by run number.
    """
    times = [_written_at(info) for info in infos.values()]
    known = [time for time in times if time is not None]
    if not starts or not known or len(known) < len(times):
        return None
    starts = dict(
        sorted(starts.items(), key=lambda item: item[1])
    )  # by time, because the clocks of two hosts may differ
    written, unit_rows = np.array(known), np.array([rows[name] for name in infos], dtype=np.int64)
    order = np.argsort(written, kind="stable")
    written, unit_rows = written[order], unit_rows[order]
    start_times = np.array([start.timestamp() for start in starts.values()])
    run_of_unit = np.maximum(np.searchsorted(start_times, written, side="right") - 1, 0)
    runs = tuple(_run_rates(starts, written, unit_rows, run_of_unit))
    return RowRates(runs, _chart(_working_time(runs, written, run_of_unit, list(starts)), unit_rows))


def _written_at(info: Mapping[str, Any]) -> float | None:
    """Return when an object was written, in seconds since 1970, or None if the store does not report it."""
    time = next((info[key] for key in _TIME_KEYS if info.get(key) is not None), None)
    if isinstance(time, str):
        time = datetime.fromisoformat(time)
    if isinstance(time, datetime):
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    return float(time) if time is not None else None


def _run_rates(
    starts: Mapping[int, datetime], written: Doubles, unit_rows: Ints, run_of_unit: Ints
) -> Iterator[RunRate]:
    """Yield the rate of each run that committed a unit. run_of_unit: the position of each unit's run in `starts`."""
    for i, (number, start) in enumerate(starts.items()):
        of_run = run_of_unit == i
        if of_run.any():
            seconds = max(float(written[of_run].max()) - start.timestamp(), 0.0)
            yield RunRate(number, start, int(of_run.sum()), int(unit_rows[of_run].sum()), seconds)


def _working_time(runs: tuple[RunRate, ...], written: Doubles, run_of_unit: Ints, numbers: list[int]) -> Doubles:
    """Return when each unit was written, in seconds of working time. Time between two runs does not count."""
    elapsed, earlier_runs = np.zeros_like(written), 0.0
    for run in runs:
        of_run = run_of_unit == numbers.index(run.number)
        elapsed[of_run] = earlier_runs + np.maximum(written[of_run] - run.started.timestamp(), 0)
        earlier_runs += run.seconds
    return elapsed


def _chart(elapsed: Doubles, unit_rows: Ints) -> Chart | None:
    """Return the chart of rows per second over working time, or None if there are too few commits."""
    bars = min(len(elapsed) // _MIN_COMMITS_PER_BAR, _MAX_BARS)
    span = float(elapsed.max())
    if bars < 2 or not span:
        return None
    rows, edges = np.histogram(elapsed, bars, (0.0, span), weights=unit_rows)
    rates = rows / (span / bars)
    return bar_chart("Rows per second over working time", rates, [duration(edge) for edge in edges], "rows per second")

"""What Prometheus learns of a run on Ray: from its driver, commit by commit, so that no try of a unit counts twice."""

from collections.abc import Iterable, Iterator
from dataclasses import fields
from typing import Any

from distilray.operators.rows.timing import Seconds
from distilray.operators.write import Commit

# Prometheus has them with `ray_` before the name, and counters with `_total` after it
JOB = ("fingerprint", "tasks")
COUNTERS = {
    "distilray_rows": ("Rows answered.", JOB),
    "distilray_dead_letters": ("Rows that cannot be answered, by reason.", (*JOB, "reason")),
    "distilray_tokens": ("Tokens of the texts.", JOB),
    "distilray_computed_tokens": ("Tokens that went through the model.", JOB),
    "distilray_units": ("Units committed.", JOB),
    "distilray_seconds": ("Seconds of stages at work and of predict workers that wait, by state.", (*JOB, "state")),
}
GAUGES = {
    "distilray_units_planned": ("Units of the whole job.", JOB),
    "distilray_units_done": ("Units of it that are committed, by this run or an earlier one.", JOB),
}
_STATES = tuple(field.name for field in fields(Seconds))


class PrometheusMetrics:
    """The meters of one run. kinds: a module that has Counter and Gauge, as ray.util.metrics; job: values of the tags JOB."""

    def __init__(self, kinds: Any, job: dict[str, str], planned: int, done: int) -> None:
        self._job = job
        self._counters = {name: kinds.Counter(name, *about) for name, about in COUNTERS.items()}
        self._planned, self._done = (kinds.Gauge(name, *about) for name, about in GAUGES.items())
        self._units, self._committed = planned, done

    def metered(self, commits: Iterable[Commit]) -> Iterator[Commit]:
        """Counts the commits on their way."""
        for commit in commits:
            self._add(commit)
            yield commit

    def set_gauges(self) -> None:
        """To be done all the time: Ray forgets a gauge that nobody sets for two of its report intervals."""
        self._planned.set(self._units, self._job)
        self._done.set(self._committed, self._job)

    def _add(self, commit: Commit) -> None:
        stats = commit.stats
        for name in ("rows", "tokens", "computed_tokens", "units"):
            self._count(name, getattr(stats, name))
        for reason, rows in stats.dead.items():
            self._count("dead_letters", rows, reason=reason)
        for state in _STATES:
            self._count("seconds", getattr(commit.timing, state), state=state)
        self._committed += stats.units
        self.set_gauges()

    def _count(self, name: str, more: float, **tags: str) -> None:
        if more > 0:  # Ray refuses nothing
            self._counters[f"distilray_{name}"].inc(more, {**self._job, **tags})

"""The Prometheus metrics of a run on Ray.

The driver counts commits. A unit with several attempts therefore counts once.
"""

from collections.abc import Iterable, Iterator
from dataclasses import fields
from typing import Any

from distilray.operators.rows.timing import Seconds
from distilray.operators.write import Commit

# Prometheus shows each name with the prefix `ray_`, and each counter with the suffix `_total`
JOB = ("fingerprint", "tasks")
COUNTERS = {
    "distilray_rows": ("Rows answered.", JOB),
    "distilray_dead_letters": ("Rows that cannot be answered, by reason.", (*JOB, "reason")),
    "distilray_tokens": ("Tokens of the texts.", JOB),
    "distilray_computed_tokens": ("Tokens that went through the model.", JOB),
    "distilray_units": ("Units committed.", JOB),
    "distilray_seconds": ("Seconds in which stages work and predict workers wait, by state.", (*JOB, "state")),
}
GAUGES = {
    "distilray_units_planned": ("Units of the whole job.", JOB),
    "distilray_units_done": ("Units of the job that this run or an earlier one committed.", JOB),
}
_STATES = tuple(field.name for field in fields(Seconds))


class PrometheusMetrics:
    """The counters and gauges of one run.

    api: a module with the classes Counter and Gauge, such as ray.util.metrics. job_tags: the value of each tag in
    `JOB`. planned: the number of units of the plan. committed: the number of them that earlier runs committed.
    """

    def __init__(self, api: Any, job_tags: dict[str, str], planned: int, committed: int) -> None:
        self._job_tags = job_tags
        self._counters = {name: api.Counter(name, *arguments) for name, arguments in COUNTERS.items()}
        self._planned_gauge, self._committed_gauge = (api.Gauge(name, *arguments) for name, arguments in GAUGES.items())
        self._planned, self._committed = planned, committed

    def count_commits(self, commits: Iterable[Commit]) -> Iterator[Commit]:
        """Count each commit, and yield it."""
        for commit in commits:
            self._count_commit(commit)
            yield commit

    def set_gauges(self) -> None:
        """Set the gauges. Call this often: Ray drops a gauge that is not set for two of its report intervals."""
        self._planned_gauge.set(self._planned, self._job_tags)
        self._committed_gauge.set(self._committed, self._job_tags)

    def _count_commit(self, commit: Commit) -> None:
        stats = commit.stats
        for name in ("rows", "tokens", "computed_tokens", "units"):
            self._increase(name, getattr(stats, name))
        for reason, rows in stats.dead.items():
            self._increase("dead_letters", rows, reason=reason)
        for state in _STATES:
            self._increase("seconds", getattr(commit.timing, state), state=state)
        self._committed += stats.units
        self.set_gauges()

    def _increase(self, name: str, amount: float, **tags: str) -> None:
        if amount > 0:  # Ray refuses to increase a counter by zero
            self._counters[f"distilray_{name}"].inc(amount, {**self._job_tags, **tags})

"""The result of a run's comparison with its float32 reference."""

from collections.abc import Mapping

from distilray.operators.objects.stats import ParityCounts, Stats
from distilray.pipeline.job.job import Parity
from distilray.pipeline.planning.plan import Plan

_SLACK = 10  # rows: sampling by a hash does not give an exact number of rows


def sampled_share(parity: Parity | None, plan: Plan) -> float:
    """Return the share of the plan's rows to sample, so that the sample has about as many rows as the job asks for."""
    return min(1.0, parity.rows / max(plan.rows, 1)) if parity else 0.0


def parity_problem(stats: Stats, plan: Plan, parity: Parity) -> str | None:
    """Return why the run of a plan fails its comparison, or None if it passes."""
    failed = [
        _describe(name, counts) for name, counts in stats.parity.items() if counts["flips"] > _max_flips(counts, parity)
    ]
    if failed:
        return (
            f"parity: the sampled rows differ from the float32 reference in {'; '.join(failed)}, and at most "
            f"{parity.max_label_flips:.4%} may differ: choose another compute.dtype in a new sink, or raise "
            "compute.parity.max_label_flips"
        )
    expected = stats.rows * sampled_share(parity, plan)
    rows = min((counts["rows"] for counts in stats.parity.values()), default=0)
    if 2 * rows < expected - _SLACK or (stats.rows and not stats.parity):
        return (
            f"parity: {rows} rows were compared, about {expected:.0f} expected: the other units were committed by a "
            "run without compute.parity; leave out compute.parity, or choose a new sink"
        )
    return None


def _max_flips(counts: ParityCounts, parity: Parity) -> float:
    return parity.max_label_flips * counts["positions"]


def _describe(name: str, counts: ParityCounts) -> str:
    return f"{name}: {counts['flips']} of {counts['positions']} decisions"


def parity_summary(stats: Stats, plan: Plan, parity: Parity | None) -> Mapping[str, object]:
    """Return the manifest's entry about parity, or {} if nothing was compared."""
    if not stats.parity and parity is None:
        return {}
    limit = (
        {"max_label_flips": parity.max_label_flips, "passed": not parity_problem(stats, plan, parity)} if parity else {}
    )
    return {**limit, "tasks": dict(stats.parity)}

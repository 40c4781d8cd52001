"""What a run's comparison with its float32 reference comes to."""

from collections.abc import Mapping

from distilray.operators.objects.stats import ParityCounts, Stats
from distilray.pipeline.job.job import Parity
from distilray.pipeline.planning.plan import Plan

_SLACK = 10  # rows: a hash does not sample to the row


def sampled_share(parity: Parity | None, plan: Plan) -> float:
    """Of the rows of a plan, to sample about as many as the job asks for."""
    return min(1.0, parity.rows / max(plan.rows, 1)) if parity else 0.0


def parity_problem(stats: Stats, plan: Plan, parity: Parity) -> str | None:
    """Why the run of a plan fails its comparison, or None."""
    far = [_says(name, each) for name, each in stats.parity.items() if each["flips"] > _most(each, parity)]
    if far:
        return (
            f"parity: of the sampled rows, {'; '.join(far)} differ from the float32 reference, and "
            f"{parity.max_label_flips:.4%} may: choose another compute.dtype in a new sink, or allow more"
        )
    expected, rows = (
        stats.rows * sampled_share(parity, plan),
        min((each["rows"] for each in stats.parity.values()), default=0),
    )
    if 2 * rows < expected - _SLACK or (stats.rows and not stats.parity):
        return (
            f"parity: {rows} rows were compared, about {expected:.0f} expected: the other units were committed by a run "
            "without compute.parity; leave it out, or choose a new sink"
        )
    return None


def _most(each: ParityCounts, parity: Parity) -> float:
    return parity.max_label_flips * each["positions"]


def _says(name: str, each: ParityCounts) -> str:
    return f"{name}: {each['flips']} of {each['positions']} decisions"


def parity_summary(stats: Stats, plan: Plan, parity: Parity | None) -> Mapping[str, object]:
    """For the manifest; {} if nothing was compared."""
    if not stats.parity and parity is None:
        return {}
    limit = (
        {"max_label_flips": parity.max_label_flips, "passed": not parity_problem(stats, plan, parity)} if parity else {}
    )
    return {**limit, "tasks": dict(stats.parity)}

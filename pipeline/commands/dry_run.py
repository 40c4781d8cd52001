"""`distilray plan`: what a first run would do and come to."""

from dataclasses import asdict, dataclass
from typing import Any

from distilray.operators.predict import Throughput
from distilray.pipeline.corpus.survey import survey
from distilray.pipeline.job.job import Job
from distilray.pipeline.planning.checked_tasks import check_tasks
from distilray.pipeline.planning.compute_target import find_target
from distilray.pipeline.planning.plan import Plan
from distilray.pipeline.planning.planner import calibrate_plan, make_plan


@dataclass(frozen=True)
class DryRun:
    """A plan that nobody has started. passes: the names of the tasks that share each pass through an encoder; pace: of one
    device, None for a corpus without rows."""

    plan: Plan
    passes: list[list[str]]
    pace: Throughput | None

    def description(self, price: float | None) -> dict[str, Any]:
        """Plain data; price: of a device-hour."""
        plan = self.plan
        return {
            "shards": plan.shards,
            "dead_shards": plan.dead_shards,
            "rows": plan.rows,
            "units": len(plan.units),
            "bytes": plan.bytes,
            "text_bytes": plan.text_bytes,
            "tokens_per_pack": plan.tokens_per_pack,
            "passes": self.passes,
            "pace": asdict(self.pace) if self.pace else None,
            "forecast": plan.forecast.description(price) if plan.forecast else None,
        }


def plan(job: Job) -> DryRun:
    """Units from the footers, tokens from a sample, and the rate of the devices: those of the cluster that RAY_ADDRESS names,
    or of this machine; no cluster is started, and nothing is written to the sink."""
    checked = check_tasks(job.tasks)
    corpus = survey(job.source, job.inputs)
    target = find_target(job.compute, start=False)
    plan = make_plan(job, corpus, target)
    plan, pace = calibrate_plan(job, plan, checked.passes, target, calibrate=True)
    return DryRun(plan, checked.tasks_by_pass, pace)

"""The command `distilray plan`: the plan and the forecast of a first run, without the run."""

from dataclasses import asdict, dataclass
from typing import Any

from distilray.operators.predict import Throughput
from distilray.pipeline.corpus.survey import survey
from distilray.pipeline.job.job import Job
from distilray.pipeline.planning.checked_tasks import check_tasks
from distilray.pipeline.planning.compute_target import find_target
from distilray.pipeline.planning.make_plan import forecast_plan, make_plan
from distilray.pipeline.planning.plan import Plan


@dataclass(frozen=True)
class DryRun:
    """The plan of a run that was not started.

    passes: the names of the tasks that share each pass through an encoder. pace: the measured throughput of one device;
    None for a corpus without rows.
    """

    plan: Plan
    passes: list[list[str]]
    pace: Throughput | None

    def description(self, price: float | None) -> dict[str, Any]:
        """Return the dry run as plain data. price: the price of a device-hour, or None."""
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
    """Plan a run of the job without starting it. Nothing is written to the sink, and no cluster is started.

    The units come from the footers of the shards, and the tokens from a sample of the rows. The throughput is that of a
    device of the cluster that RAY_ADDRESS names, or else of this machine.
    """
    checked = check_tasks(job.tasks)
    corpus = survey(job.source, job.inputs)
    target = find_target(job.compute, start=False)
    plan = make_plan(job, corpus, target)
    plan, throughput = forecast_plan(job, plan, checked.passes, target, calibrate=True)
    return DryRun(plan, checked.tasks_by_pass, throughput)

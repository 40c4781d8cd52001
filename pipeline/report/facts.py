"""What an output says of itself: its job, its plan, what is committed, and the sums."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from distilray.operators.rows.unit import Unit
from distilray.pipeline.errors import JobError
from distilray.pipeline.job.job import Job, parse_job, parse_sink
from distilray.pipeline.job.overrides import override_keys
from distilray.pipeline.planning.plan import Plan
from distilray.pipeline.sink.output import Output, open_output
from distilray.pipeline.sink.parity_check import parity_summary

_ADVICE = "If no run and no retry is at work there, distilray verify says what to do with them"
_SETTABLE = r"(source|sink|tasks\.\d+)\.storage_options\b"


@dataclass(frozen=True)
class OutputFacts:
    """listed: what the store says of the objects of committed units; sums: the manifest's, or for an unfinished run those of
    the footers; manifest: of the run that finished the job, {} if none has."""

    output: Output
    job: Job
    plan: Plan
    listed: Mapping[str, Mapping[str, Any]]
    sums: Mapping[str, Any]
    manifest: Mapping[str, Any]

    @property
    def committed(self) -> list[Unit]:
        return [unit for unit in self.plan.units if unit.name in self.listed]

    @property
    def state(self) -> str:
        """finished, unfinished, or failed: all is committed, and too far from its reference."""
        if self.manifest:
            return "finished"
        whole = len(self.listed) == len(self.plan.units)
        return "failed" if whole and not self.sums["parity"].get("passed", True) else "unfinished"


def read_facts(uri: str, overrides: Sequence[str] = ()) -> OutputFacts:
    """Of the output at `uri`, finished or not.

    overrides: keys of storage_options, as `a.b=value`. Raises JobError if there is no output, StoreError if the store fails,
    IncompleteError for objects that are not as they were committed.
    """
    output = open_output(parse_sink(uri, overrides))
    stored = output.require_plan()
    said = output.job_description(stored)
    said = {**said, "sink": {**said["sink"], "uri": uri}}
    job = parse_job(override_keys(said, overrides, _SETTABLE, "keys of storage_options"), f"the job of {uri}")
    plan = output.load_plan(job, stored.about["fingerprint"])
    if plan is None:
        raise JobError(f"the plan in {uri} is gone")
    manifest = output.finished(plan) or {}
    infos = output.list_objects("data")
    listed = {unit.name: infos[unit.name] for unit in plan.units if unit.name in infos}
    return OutputFacts(output, job, plan, listed, manifest or _sums(output, job, plan, listed), manifest)


def _sums(output: Output, job: Job, plan: Plan, listed: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What a manifest would say of the units that are committed."""
    committed = [unit for unit in plan.units if unit.name in listed]
    stats = output.count_units(committed, {name: info["size"] for name, info in listed.items()}, _ADVICE)
    parity = parity_summary(stats, plan, job.compute.parity)
    return {**asdict(stats), "padding": stats.padding, "shards": plan.shards, "parity": parity}

"""The facts that the files of an output give: its job, its plan, its committed units and their sums."""

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

_ADVICE = "If no run and no retry is writing to this output, distilray verify shows what to do about each unit"
_SETTABLE = r"(source|sink|tasks\.\d+)\.storage_options\b"


@dataclass(frozen=True)
class OutputFacts:
    """The facts about one output.

    listed: the store's metadata of the data objects, by unit name. sums: the sums in the manifest, or those of the
    footers for an unfinished output. manifest: the manifest of the run that finished the job, {} if the job is
    unfinished.
    """

    output: Output
    job: Job
    plan: Plan
    listed: Mapping[str, Mapping[str, Any]]
    sums: Mapping[str, Any]
    manifest: Mapping[str, Any]

    @property
    def committed(self) -> list[Unit]:
        """The committed units, in the order of the plan."""
        return [unit for unit in self.plan.units if unit.name in self.listed]

    @property
    def state(self) -> str:
        """`finished`, `unfinished`, or `failed`: all units are committed, but the parity check failed."""
        if self.manifest:
            return "finished"
        complete = len(self.listed) == len(self.plan.units)
        return "failed" if complete and not self.sums["parity"].get("passed", True) else "unfinished"


def read_facts(uri: str, overrides: Sequence[str] = ()) -> OutputFacts:
    """Read the facts about the output at `uri`, finished or not.

    overrides: keys of storage_options, as `a.b=value`. Raises JobError if there is no output, StoreError if the store
    fails, and IncompleteError if an object differs from what was committed.
    """
    output = open_output(parse_sink(uri, overrides))
    stored = output.require_stored_plan()
    description = output.job_description(stored)
    description = {**description, "sink": {**description["sink"], "uri": uri}}
    job = parse_job(override_keys(description, overrides, _SETTABLE, "keys of storage_options"), f"the job of {uri}")
    plan = output.load_plan(job, stored.about["fingerprint"])
    if plan is None:
        raise JobError(f"the plan in {uri} was deleted while the report was made; make the report again")
    manifest = output.finished_manifest(plan) or {}
    infos = output.list_objects("data")
    listed = {unit.name: infos[unit.name] for unit in plan.units if unit.name in infos}
    return OutputFacts(output, job, plan, listed, manifest or _sums(output, job, plan, listed), manifest)


def _sums(output: Output, job: Job, plan: Plan, listed: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the sums of the committed units, with the keys of a manifest."""
    committed = [unit for unit in plan.units if unit.name in listed]
    stats = output.count_units(committed, {name: info["size"] for name, info in listed.items()}, _ADVICE)
    parity = parity_summary(stats, plan, job.compute.parity)
    return {**asdict(stats), "padding": stats.padding, "shards": plan.shards, "parity": parity}

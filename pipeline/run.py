"""The whole flow: check, plan, compute what is missing, count, say success."""

import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from types import ModuleType
from typing import Any

import pyarrow as pa
import torch

from distilray import __version__
from distilray.model.attention import choose_attention
from distilray.model.device import choose_dtype
from distilray.model.windows import WindowError
from distilray.operators.predict import passes, read_models
from distilray.operators.read import Unit
from distilray.operators.schema import RESERVED
from distilray.operators.task import ComputeSpec, Task, TaskError, open_checkpoints, schema_of
from distilray.operators.tokenize import tokenizings
from distilray.operators.work import Work
from distilray.operators.write import Stats, Write
from distilray.pipeline import local
from distilray.pipeline.commit import open_output, total
from distilray.pipeline.errors import JobError
from distilray.pipeline.job import Job
from distilray.pipeline.plan import Plan, cut
from distilray.pipeline.pools import size_pools
from distilray.pipeline.shards import Corpus, list_shards, survey

# a minute of work for a CPU and seconds for a GPU: 32 MiB of text are 8 M tokens, about 2 GB while they are decoded
_UNIT_BYTES = {"cpu": 2**20, "gpu": 2**25}

Watch = Callable[[Stats], None]


@dataclass(frozen=True)
class Result:
    """A finished run. manifest: also in the sink; computed: what this run did; seconds: how long it took."""

    job: Job
    plan: Plan
    manifest: dict[str, Any]
    computed: Stats
    seconds: float


def execute(job: Job, on_start: Callable[[Plan, Stats], None] | None = None, on_unit: Watch | None = None) -> Result:
    """Answers every row of the job's corpus once, or continues an earlier run of the same job.

    on_start is called with the plan and what is committed already, on_unit with each commit. Raises JobError,
    CheckpointError or BackendError before any work starts, if the job cannot run; IncompleteError if rows got lost.
    """
    started = time.monotonic()
    checked = check_tasks(job.tasks)
    fingerprint = job.fingerprint(checked.digests)
    output = open_output(job.sink)
    plan = output.load_plan(job.source, job.inputs, fingerprint)
    resumed = plan is not None
    if plan is None:
        plan = make_plan(job, survey(job.source, job.inputs))
        _check_partitions(job, plan)
        if not output.save_plan(plan, fingerprint):  # another run was first: its units are the units
            plan = output.load_plan(job.source, job.inputs, fingerprint) or plan
    done = output.committed()
    todo = [unit for unit in plan.units if unit.name not in done]
    if resumed:
        _check_growth(job, plan, finished=not todo)
    manifest = output.manifest() if not todo else None
    mine = {unit.name: done[unit.name] for unit in plan.units if unit.name in done}
    before = Stats() if manifest else output.stats(mine)
    if on_start:
        on_start(plan, before)
    computed = Stats()
    for stats in _engine(job, plan, checked.answers, todo):
        computed += stats
        if on_unit:
            on_unit(stats)
    if manifest is None:
        about = {
            "fingerprint": fingerprint,
            "job": job.description(),
            "versions": versions(),
            "passes": checked.passes,
        }
        manifest = output.finish(plan, total([before, computed]), about)
    return Result(job, plan, manifest, computed, time.monotonic() - started)


@dataclass(frozen=True)
class Checked:
    """Tasks that can be done. answers: their columns; digests: of their checkpoints; passes: the names of the tasks that
    share each pass through an encoder."""

    answers: pa.Schema
    digests: list[str]
    passes: list[list[str]]


def check_tasks(tasks: Sequence[Task]) -> Checked:
    """Raises CheckpointError or TaskError if a task cannot be done with its checkpoint."""
    checkpoints = open_checkpoints(tasks)
    models, tokenizers = read_models(tasks, checkpoints), tokenizings(tasks, checkpoints)
    for each in tokenizers:
        for i, tokenizer in each.tokenizers.items():
            try:
                tasks[i].check(models[i].config, tokenizer)
            except (TaskError, WindowError) as error:
                raise TaskError(f"tasks.{i} ({tasks[i].name}, {tasks[i].model}): {error}") from error
    fields = [field for task, model in zip(tasks, models, strict=True) for field in schema_of(task, model.config)]
    shared = passes(tokenizers, [model.encoder_digest() for model in models])
    names = [[tasks[i].name for i in each.tasks] for each in shared]
    return Checked(pa.schema(fields), [checkpoint.digest() for checkpoint in checkpoints], names)


def make_plan(job: Job, corpus: Corpus) -> Plan:
    """Units for the device at hand.

    Raises BackendError if that device cannot do what the job asks for, JobError if the cluster is too small for it.
    """
    compute = job.compute
    if compute.engine == "local":
        on_gpu = torch.cuda.is_available()
    else:
        cpus, gpus = ray_engine().connect()
        size_pools(compute, cpus, gpus)
        on_gpu = gpus > 0
    if not on_gpu:  # a GPU is on another machine: its workers check
        cpu = torch.device("cpu")
        for checkpoint in open_checkpoints(job.tasks):
            choose_attention(compute.attention, cpu, choose_dtype(compute.dtype, cpu), checkpoint.config.head_dim)
    return cut(corpus, compute.unit_bytes or _UNIT_BYTES["gpu" if on_gpu else "cpu"])


def ray_engine() -> ModuleType:
    """Ray takes seconds to import: only where it is used."""
    from distilray.pipeline import graph  # noqa: PLC0415

    return graph


def work_of(job: Job, plan: Plan) -> Work:
    """What the workers of either engine must know."""
    c = job.compute
    return Work(plan.read, job.tasks, ComputeSpec(c.dtype, c.attention, c.tokens_per_pack, c.threads))


def _engine(job: Job, plan: Plan, answers: pa.Schema, todo: Sequence[Unit]) -> Iterator[Stats]:
    if not todo:
        return iter(())
    write = Write(job.sink.uri, job.tasks, plan.read.columns, answers, job.sink.storage_options)
    if job.compute.engine == "local":
        return local.run_units(work_of(job, plan), write, todo)
    stream: Iterator[Stats] = ray_engine().run_units(work_of(job, plan), write, todo, job.compute)
    return stream


def _check_partitions(job: Job, plan: Plan) -> None:
    """JobError if hive keys of the corpus clash with the output's columns."""
    if taken := {*RESERVED, *job.answer_columns} & set(plan.read.partitions.names):
        raise JobError(f"source: the shards' paths have keys that the output needs itself: {', '.join(sorted(taken))}")


def _check_growth(job: Job, plan: Plan, finished: bool) -> None:
    """JobError if the corpus has more shards than its plan: they would be neither answered nor dead letters."""
    try:
        listed = list(list_shards(job.source))
    except JobError:
        if finished:  # a finished run needs its corpus no more
            return
        raise
    if len(listed) > plan.shards:
        new = sorted(set(listed) - {unit.uri for unit in plan.units})
        raise JobError(
            f"the corpus has {len(listed)} shards, the plan in {job.sink.uri} {plan.shards}; new is {', '.join(new[:3])}: "
            "give new shards a sink of their own"
        )


def versions() -> dict[str, str]:
    """What the answers were made with."""
    packages = ("ray", "torch", "tokenizers", "pyarrow")
    return {"distilray": __version__, "python": platform.python_version(), **{name: version(name) for name in packages}}

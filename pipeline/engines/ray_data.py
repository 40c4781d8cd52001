"""The engine on Ray Data: the same operators as stages of a stream. The only file that imports Ray."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar

# before Ray is imported: its progress bars and logs would drown ours
for _name, _value in {
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_DATA_LOG_LEVEL": "CRITICAL",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}.items():
    os.environ.setdefault(_name, _value)

import pyarrow as pa  # noqa: E402
import ray  # noqa: E402
import ray.data  # noqa: E402
import torch  # noqa: E402
from ray.data import ActorPoolStrategy, DataContext, TaskPoolStrategy  # noqa: E402
from ray.data._internal.execution.execution_callback import ExecutionCallback  # noqa: E402
from ray.data._internal.execution.operators.actor_pool_map_operator import ActorPoolMapOperator  # noqa: E402
from ray.data.block import BlockMetadata  # noqa: E402
from ray.data.datasource import Datasource, ReadTask  # noqa: E402
from ray.data.exceptions import ExecutionTimeoutError  # noqa: E402
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError  # noqa: E402
from ray.util import metrics  # noqa: E402, F401  for pipeline/metrics.py

from distilray.model.errors import BackendError  # noqa: E402
from distilray.operators import predict  # noqa: E402
from distilray.operators.errors import UnitError  # noqa: E402
from distilray.operators.evaluate import Counts, Evaluate, counts_of  # noqa: E402
from distilray.operators.isolated_read import read_guarded  # noqa: E402
from distilray.operators.rows.unit import Unit  # noqa: E402
from distilray.operators.tasks.task import Task  # noqa: E402
from distilray.operators.tokenize import TokenizeUnit  # noqa: E402
from distilray.operators.worker_config import ComputeSpec, WorkerConfig  # noqa: E402
from distilray.operators.write import Commit, Write, commit_of  # noqa: E402
from distilray.pipeline.engines.actor_pools import ActorCounts, ActorPool, ActorPools  # noqa: E402
from distilray.pipeline.errors import STOP_ERRORS, USER_ERRORS, StalledError  # noqa: E402

WRITERS = 2  # tasks of no CPU: enough to overlap puts, few enough worker processes
_MAX_RETRIES = (
    10  # of a unit whose worker dies: a row that kills it is found by the second, so these are killed by others
)
_UNITS_PER_ACTOR = 2  # units at a worker: one in work, and the next on its way to the worker's node meanwhile


def connect() -> tuple[float, float, float | None]:
    """Joins the cluster that RAY_ADDRESS names, as it does in a submitted job, or starts one here; its CPUs and GPUs, and
    the CPUs that are left if it loses its largest node, None if it has but one with CPUs.

    Ray on its own would also look for traces of a cluster on this machine, and wait for minutes for a dead one.
    """
    if not ray.is_initialized():
        with _native_stderr_closed():  # the core announces RAY_BACKEND_LOG_LEVEL there
            ray.init(address=os.environ.get("RAY_ADDRESS", "local"), logging_level=logging.ERROR, log_to_driver=False)
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    nodes = [node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    return resources.get("CPU", 0.0), resources.get("GPU", 0.0), (sum(nodes) - max(nodes, default=0.0)) or None


@contextmanager
def _native_stderr_closed() -> Iterator[None]:
    """What Ray's own C++ prints while it starts goes nowhere; Python exceptions come through."""
    stderr = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def run_units(
    work: WorkerConfig,
    write: Write,
    units: Sequence[Unit],
    pools: ActorPools,
    stall: float,
    at_step: Callable[[], None],
) -> Iterator[Commit]:
    """Answers and commits the units, as they come; yields each commit, and does `at_step` many times a second. Raises
    StalledError after `stall` seconds in which no stage took or gave anything."""
    ActorMonitor.at_step = at_step
    commits = _computed(work, units, pools, stall, RayPredict, work.isolation, _actor).map_batches(
        write,
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=0,
        compute=TaskPoolStrategy(size=min(WRITERS, len(units))),
    )
    yield from map(commit_of, _tables(commits, stall))


def judge_units(work: WorkerConfig, units: Sequence[Unit], pools: ActorPools, stall: float) -> Iterator[Counts]:
    """Compares the units with their gold, as they come; yields the counts of each one. Raises like `run_units`."""
    ActorMonitor.at_step = None
    for judged in _tables(_computed(work, units, pools, stall, Evaluate), stall):
        yield from counts_of(judged)


def measure_throughput(
    tasks: Sequence[Task], spec: ComputeSpec, workers: ActorPool, table: pa.Table, stall: float
) -> predict.Throughput | None:
    """What `Predict.pace` says of tokenized rows, on a worker like those that predict. Raises StalledError."""
    measure = ray.remote(num_cpus=workers.num_cpus, num_gpus=workers.num_gpus)(_measure_throughput)
    with _own_errors(stall):
        found: predict.Throughput | None = ray.get(measure.remote(tasks, spec, table), timeout=stall)
    return found


def _measure_throughput(tasks: Sequence[Task], spec: ComputeSpec, table: pa.Table) -> predict.Throughput | None:
    return RayPredict(tasks, spec).measure_throughput(table)


def _tables(data: ray.data.Dataset, stall: float) -> Iterator[pa.Table]:
    """The tables of a stream as they come."""
    with _own_errors(stall):
        yield from data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)


@contextmanager
def _own_errors(stall: float) -> Iterator[None]:
    """What a user can put right, and what only stops a run, is raised as itself, without Ray's traceback."""
    try:
        yield
    except RayTaskError as error:
        if isinstance(error.cause, (*USER_ERRORS, *STOP_ERRORS)):
            said = str(error.cause.args[0]) if error.cause.args else ""
            error.cause.args = (said.partition("\nFailed to apply UDF")[0], *error.cause.args[1:])  # Ray's own advice
            raise error.cause from None
        raise
    except (ExecutionTimeoutError, GetTimeoutError):
        raise StalledError(_stalled(stall)) from None
    except RayActorError as error:
        if error.actor_init_failed:  # it has the reason
            raise
        raise UnitError(
            f"the worker of a unit died {_MAX_RETRIES + 1} times ({type(error).__name__}). If a row ends it, the folder that remembers "
            "this (DISTILRAY_CACHE, else ~/.cache/distilray) must be writable on every node; else nodes were lost or memory ended"
        ) from None


class ActorMonitor(ExecutionCallback):
    """Remembers what the actors of the stages that have some are at; at_step: what else to do then."""

    stages: ClassVar[dict[str, ActorCounts]] = {}
    at_step: ClassVar[Callable[[], None] | None] = None

    def before_execution_starts(self, *_: Any) -> None:
        self.stages.clear()

    def on_execution_step(self, executor: Any) -> None:
        for stage in (each for each in executor._topology if isinstance(each, ActorPoolMapOperator)):
            now = stage.get_actor_info()
            busy = min(stage._actor_pool.num_active_actors(), now.running)  # one that starts again is not
            name = stage.name.removeprefix("MapBatches(").removesuffix(")").lower()
            self.stages[name] = ActorCounts(busy, now.running, now.restarting + now.pending, stage.num_active_tasks())
        if ActorMonitor.at_step:
            ActorMonitor.at_step()


def _stalled(stall: float) -> str:
    """What waits for what."""
    there, free = ray.cluster_resources(), ray.available_resources()  # type: ignore[no-untyped-call]
    stages = [
        f"{name}: {now.running} of {now.running + now.waiting} actors placed, with {now.units} units"
        for name, now in ActorMonitor.stages.items()
    ]
    resources = [f"{free.get(kind, 0):g} of {there.get(kind, 0):g} {kind}s free" for kind in ("CPU", "GPU")]
    lacking = any(now.waiting for now in ActorMonitor.stages.values()) or not ActorMonitor.stages
    todo = "end what else runs there, or add nodes" if lacking else "if a unit may take so long, raise compute.stall"
    return (
        f"nothing came further for {stall:g} s (compute.stall): {'; '.join(stages) or 'no worker was placed'}; "
        f"the cluster has {' and '.join(resources)}; {todo}"
    )


class RayPredict(predict.PredictUnit):
    """On an actor, which ends if its device fails: Ray starts it again."""

    def __post_init__(self) -> None:
        if (
            ray.get_gpu_ids() and not torch.cuda.is_available()
        ):  # else it would go on with the CPU, at a fraction of the speed
            raise BackendError("Ray gave this worker a GPU that torch cannot use: look at the node's driver")
        super().__post_init__()

    def __call__(self, table: pa.Table) -> pa.Table:
        try:
            return super().__call__(table)
        except torch.AcceleratorError:
            logging.getLogger(__name__).exception("the device failed: ending this worker")
            os._exit(1)


def _actor() -> str:
    """What names an actor, as often as it is restarted."""
    return str(ray.get_runtime_context().get_actor_id())


def _computed(
    work: WorkerConfig, units: Sequence[Unit], pools: ActorPools, stall: float, operator: type, *more: Any
) -> ray.data.Dataset:
    """The units read, tokenized, and put through the operator that holds the model; more: of its arguments."""
    context = DataContext.get_current()
    context.target_max_block_size = None  # never split or merge a unit
    context.autoscaling_config.actor_pool_util_downscaling_threshold = -1.0  # nobody is sent away for having to wait
    context.raise_original_map_exception = True  # an operator's own error, by its own type
    context.execution_no_progress_timeout_s = stall
    context.custom_execution_callback_classes = [ActorMonitor]
    rows = ray.data.read_datasource(
        UnitDatasource(work, units),
        override_num_blocks=len(units),
        num_cpus=pools.read_cpus,
        compute=TaskPoolStrategy(size=pools.readers),
    )
    tokens = _stage(rows, "Tokenize", TokenizeUnit, (work.tasks, work.isolation), pools.tokenize, len(units))
    return _stage(tokens, "Predict", operator, (work.tasks, work.compute, *more), pools.predict, len(units))


def _stage(
    data: ray.data.Dataset, name: str, operator: type, arguments: tuple[Any, ...], workers: ActorPool, units: int
) -> ray.data.Dataset:
    # all workers there can be work for at once: a device that starts late is a device that waits
    most = min(workers.max, max(workers.min, units))
    # map_batches wants a batch size as soon as there are GPUs; a unit must stay whole, so its own internal it is
    return data.map_batches_internal(
        _deferring_errors(name, operator),
        fn_constructor_args=arguments,
        batch_size=None,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(
            min_size=workers.min, max_size=most, initial_size=most, max_tasks_in_flight_per_actor=_UNITS_PER_ACTOR
        ),
        num_cpus=workers.num_cpus,
        num_gpus=workers.num_gpus or None,
        max_restarts=-1,
        max_task_retries=_MAX_RETRIES,
    )


def _deferring_errors(name: str, operator: type) -> type:
    """The operator, which says with its first table why it cannot be made: of an actor that fails in the making, Ray
    only says that it died."""

    class DeferredErrors(operator):  # type: ignore[misc]
        error: Exception | None = None

        def __post_init__(self) -> None:
            try:
                super().__post_init__()
            except (*USER_ERRORS, *STOP_ERRORS) as error:
                self.error = error

        def __call__(self, table: pa.Table) -> pa.Table:
            if self.error:
                raise self.error
            return super().__call__(table)

    DeferredErrors.__name__ = DeferredErrors.__qualname__ = name  # the stage's name
    return DeferredErrors


class UnitDatasource(Datasource):
    """One read task a unit."""

    def __init__(self, work: WorkerConfig, units: Sequence[Unit]) -> None:
        self._work, self._units = work, units

    def estimate_inmemory_data_size(self) -> None:
        """Unknown, and not needed: nothing is sized by it."""

    def get_read_tasks(self, *_: Any, **__: Any) -> list[ReadTask]:
        """The parallelism that Ray wishes for is not met: units are never merged."""
        return [ReadTask(partial(_read, self._work, unit), _metadata(unit)) for unit in self._units]


def _read(work: WorkerConfig, unit: Unit) -> Iterable[pa.Table]:
    yield read_guarded(work.read, work.isolation, unit)


def _metadata(unit: Unit) -> BlockMetadata:
    return BlockMetadata(num_rows=unit.rows, size_bytes=None, input_files=(unit.uri,), exec_stats=None)

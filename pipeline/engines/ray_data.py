"""The engine on Ray Data: the operators as stages of a stream. This is the only module that imports Ray."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar

# Set before Ray is imported, because its progress bars and logs would hide those of a run
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
from ray.util import metrics  # noqa: E402, F401  used by commands/compute.py

from distilray.model.errors import BackendError  # noqa: E402
from distilray.operators import predict  # noqa: E402
from distilray.operators.errors import UnitError  # noqa: E402
from distilray.operators.evaluate import Counts, Evaluate, counts_of  # noqa: E402
from distilray.operators.isolated_read import read_isolated  # noqa: E402
from distilray.operators.rows.unit import Unit  # noqa: E402
from distilray.operators.tasks.task import Task  # noqa: E402
from distilray.operators.tokenize import TokenizeUnit  # noqa: E402
from distilray.operators.worker_config import ComputeSpec, WorkerConfig  # noqa: E402
from distilray.operators.write import Commit, Write, commit_of  # noqa: E402
from distilray.pipeline.engines.actor_pools import ActorCounts, ActorPool, ActorPools  # noqa: E402
from distilray.pipeline.errors import STOP_ERRORS, USER_ERRORS, StalledError  # noqa: E402

WRITERS = 2  # tasks that request no CPU: enough to overlap object writes, with few worker processes
# Further attempts at a unit whose worker process ended. The second attempt finds a row that ends its worker. If the
# process ends again, the cause is another one.
_MAX_RETRIES = 10
_UNITS_PER_ACTOR = 2  # one that the actor computes, and the next on its way to the actor's node


def connect() -> tuple[float, float, float | None]:
    """Join a Ray cluster, or start one on this machine.

    The environment variable RAY_ADDRESS names the cluster to join. Ray sets it in a submitted job. Returns the CPUs of
    the cluster, its GPUs, and the CPUs that remain after the loss of its largest node (None if only one node has CPUs).

    Ray always gets an address. Without one, it would search this machine for a cluster, and could wait minutes for a
    cluster that has ended.
    """
    if not ray.is_initialized():
        with _native_stderr_closed():  # Ray's core announces RAY_BACKEND_LOG_LEVEL there
            ray.init(address=os.environ.get("RAY_ADDRESS", "local"), logging_level=logging.ERROR, log_to_driver=False)
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    nodes = [node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    return resources.get("CPU", 0.0), resources.get("GPU", 0.0), (sum(nodes) - max(nodes, default=0.0)) or None


@contextmanager
def _native_stderr_closed() -> Iterator[None]:
    """Discard what Ray's C++ code prints to stderr. Python exceptions still propagate."""
    stderr = os.dup(2)
    with open(os.devnull, "wb") as devnull:
        os.dup2(devnull.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def run_units(
    config: WorkerConfig,
    write: Write,
    units: Sequence[Unit],
    pools: ActorPools,
    stall: float,
    at_step: Callable[[], None],
) -> Iterator[Commit]:
    """Answer and commit the units in the order in which they finish. Yields each commit.

    at_step: a function that is called many times a second. Raises StalledError after `stall` seconds in which no stage
    took or returned a unit.
    """
    ActorMonitor.at_step = at_step
    commits = _predicted(config, units, pools, stall, "Predict", RayPredict, config.isolation, _actor_id).map_batches(
        write,
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=0,
        compute=TaskPoolStrategy(size=min(WRITERS, len(units))),
    )
    yield from map(commit_of, _tables(commits, stall))


def evaluate_units(config: WorkerConfig, units: Sequence[Unit], pools: ActorPools, stall: float) -> Iterator[Counts]:
    """Compare the units with their gold columns in the order in which they finish. Yields the counts of each unit.

    Raises StalledError as `run_units` does.
    """
    ActorMonitor.at_step = None
    for table in _tables(_predicted(config, units, pools, stall, "Evaluate", Evaluate), stall):
        yield from counts_of(table)


def find_throughput(
    tasks: Sequence[Task], spec: ComputeSpec, workers: ActorPool, table: pa.Table, stall: float
) -> predict.Throughput | None:
    """Measure the throughput of tokenized rows on a worker with the resources of a predict worker.

    Raises StalledError after `stall` seconds.
    """
    measure = ray.remote(num_cpus=workers.num_cpus, num_gpus=workers.num_gpus)(_measure_throughput)
    with _unwrap_ray_errors(stall):
        throughput: predict.Throughput | None = ray.get(measure.remote(tasks, spec, table), timeout=stall)
    return throughput


def _measure_throughput(tasks: Sequence[Task], spec: ComputeSpec, table: pa.Table) -> predict.Throughput | None:
    return RayPredict(tasks, spec).find_throughput(table)


def _tables(data: ray.data.Dataset, stall: float) -> Iterator[pa.Table]:
    """Yield the tables of a stream in the order in which they finish."""
    with _unwrap_ray_errors(stall):
        yield from data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)


@contextmanager
def _unwrap_ray_errors(stall: float) -> Iterator[None]:
    """Raise USER_ERRORS and STOP_ERRORS of workers with their own type and message, without Ray's traceback."""
    try:
        yield
    except RayTaskError as error:
        if isinstance(error.cause, (*USER_ERRORS, *STOP_ERRORS)):
            message = str(error.cause.args[0]) if error.cause.args else ""
            # Ray appends advice to the message
            error.cause.args = (message.partition("\nFailed to apply UDF")[0], *error.cause.args[1:])
            raise error.cause from None
        raise
    except (ExecutionTimeoutError, GetTimeoutError):
        raise StalledError(_stall_message(stall)) from None
    except RayActorError as error:
        if error.actor_init_failed:  # the error contains the reason
            raise
        raise UnitError(
            f"the worker of a unit ended {_MAX_RETRIES + 1} times ({type(error).__name__}). Either nodes were lost or "
            "ran out of memory: check the nodes. Or a row ends its worker: the folder of marks (DISTILRAY_CACHE, else "
            "~/.cache/distilray) must be writable on every node"
        ) from None


class ActorMonitor(ExecutionCallback):
    """A callback that records the state of the actors of each stage. Ray calls it at each step of an execution.

    stages: the counts of actors by stage, for stages that have actors. at_step: a function to call at each step.
    """

    stages: ClassVar[dict[str, ActorCounts]] = {}
    at_step: ClassVar[Callable[[], None] | None] = None

    def before_execution_starts(self, *_: Any) -> None:
        self.stages.clear()

    def on_execution_step(self, executor: Any) -> None:
        for stage in executor._topology:
            if not isinstance(stage, ActorPoolMapOperator):
                continue
            actors = stage.get_actor_info()
            busy = min(stage._actor_pool.num_active_actors(), actors.running)  # Ray counts restarting actors as active
            waiting = actors.restarting + actors.pending
            name = stage.name.removeprefix("MapBatches(").removesuffix(")").lower()
            self.stages[name] = ActorCounts(busy, actors.running, waiting, stage.num_active_tasks())
        if ActorMonitor.at_step:
            ActorMonitor.at_step()


def _stall_message(stall: float) -> str:
    """Return the actors of each stage, the free resources of the cluster, and what to do."""
    total, free = ray.cluster_resources(), ray.available_resources()  # type: ignore[no-untyped-call]
    stages = [
        f"{name}: {actors.running} of {actors.running + actors.waiting} actors placed, with {actors.units} units"
        for name, actors in ActorMonitor.stages.items()
    ]
    resources = [f"{free.get(kind, 0):g} of {total.get(kind, 0):g} {kind}s free" for kind in ("CPU", "GPU")]
    waiting = any(actors.waiting for actors in ActorMonitor.stages.values()) or not ActorMonitor.stages
    advice = (
        "stop other work on the cluster, or add nodes" if waiting else "if a unit may take so long, raise compute.stall"
    )
    return (
        f"no stage made progress for {stall:g} s (compute.stall): {'; '.join(stages) or 'no worker was placed'}; "
        f"the cluster has {' and '.join(resources)}; {advice}"
    )


class RayPredict(predict.PredictUnit):
    """The predict operator on an actor. The actor ends if its device fails, and Ray restarts it."""

    def __post_init__(self) -> None:
        """Load the models. Raises BackendError if torch cannot use the GPU of the actor."""
        if ray.get_gpu_ids() and not torch.cuda.is_available():  # the CPU would be many times slower
            raise BackendError("Ray gave this worker a GPU that torch cannot use: check the driver of the node")
        super().__post_init__()

    def __call__(self, table: pa.Table) -> pa.Table:
        try:
            return super().__call__(table)
        except torch.AcceleratorError:
            logging.getLogger(__name__).exception("the device failed: this worker ends, and Ray restarts it")
            os._exit(1)


def _actor_id() -> str:
    """Return the id of this actor. It stays the same when the actor restarts."""
    return str(ray.get_runtime_context().get_actor_id())


def _predicted(
    config: WorkerConfig,
    units: Sequence[Unit],
    pools: ActorPools,
    stall: float,
    name: str,
    operator: type,
    *operator_arguments: Any,
) -> ray.data.Dataset:
    """Return a stream that reads and tokenizes the units and passes them to the operator that holds the models.

    name: of the last stage, as Ray shows it. operator_arguments: arguments of the operator after the tasks and the compute
    spec.
    """
    context = DataContext.get_current()
    context.target_max_block_size = None  # never split or merge a unit
    context.autoscaling_config.actor_pool_util_downscaling_threshold = -1.0  # never stop an actor that waits
    context.raise_original_map_exception = True  # raise an operator's exception with its own type
    context.execution_no_progress_timeout_s = stall
    context.custom_execution_callback_classes = [ActorMonitor]
    rows = ray.data.read_datasource(
        UnitDatasource(config, units),
        override_num_blocks=len(units),
        num_cpus=pools.read_cpus,
        compute=TaskPoolStrategy(size=pools.readers),
    )
    tokens = _add_stage(rows, "Tokenize", TokenizeUnit, (config.tasks, config.isolation), pools.tokenize, len(units))
    arguments = (config.tasks, config.compute, *operator_arguments)
    return _add_stage(tokens, name, operator, arguments, pools.predict, len(units))


def _add_stage(
    data: ray.data.Dataset, name: str, operator: type, arguments: tuple[Any, ...], workers: ActorPool, units: int
) -> ray.data.Dataset:
    # start all actors at once, so that no device waits for its actor; more actors than units have no work
    size = min(workers.max, max(workers.min, units))
    # the public map_batches requires a batch size on GPUs, but a unit must stay whole
    return data.map_batches_internal(
        _defer_init_errors(name, operator),
        fn_constructor_args=arguments,
        batch_size=None,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(
            min_size=workers.min, max_size=size, initial_size=size, max_tasks_in_flight_per_actor=_UNITS_PER_ACTOR
        ),
        num_cpus=workers.num_cpus,
        num_gpus=workers.num_gpus or None,
        max_restarts=-1,
        max_task_retries=_MAX_RETRIES,
    )


def _defer_init_errors(name: str, operator: type) -> type:
    """Return a subclass of the operator that raises errors of its construction with its first table.

    Ray reports an actor whose construction fails only as dead, without the reason.
    """

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

    DeferredErrors.__name__ = DeferredErrors.__qualname__ = name  # Ray names the stage after the class
    return DeferredErrors


class UnitDatasource(Datasource):
    """A Ray Data source with one read task for each unit."""

    def __init__(self, config: WorkerConfig, units: Sequence[Unit]) -> None:
        self._config, self._units = config, units

    def estimate_inmemory_data_size(self) -> None:
        """Return None: the size is unknown, and no decision depends on it."""

    def get_read_tasks(self, *_: Any, **__: Any) -> list[ReadTask]:
        """Return one task for each unit. Ray's requested parallelism is ignored, because units are never merged."""
        return [ReadTask(partial(_read, self._config, unit), _metadata(unit)) for unit in self._units]


def _read(config: WorkerConfig, unit: Unit) -> Iterable[pa.Table]:
    yield read_isolated(config.read, config.isolation, unit)


def _metadata(unit: Unit) -> BlockMetadata:
    return BlockMetadata(num_rows=unit.rows, size_bytes=None, input_files=(unit.uri,), exec_stats=None)

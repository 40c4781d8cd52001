"""How many workers of each kind a cluster holds, so that no stage can starve another, even when a node is lost."""

from dataclasses import dataclass, replace
from math import ceil, floor, log2

from distilray.pipeline.errors import JobError
from distilray.pipeline.job.job import Compute

# tokenizers that a predict worker keeps busy, where nobody measured it: a GPU computes about as fast as two tokenize, and
# on CPUs the forward pass is far dearer than tokenizing
_PER_GPU, _PER_CPU = 2.0, 1 / 48
_HEADROOM = 1.5


@dataclass(frozen=True)
class ActorPool:
    """A pool: least and most actors, and what each asks of Ray."""

    min: int
    max: int
    num_cpus: float
    num_gpus: float = 0.0


@dataclass(frozen=True)
class ActorCounts:
    """Of a stage, at one moment. busy: with a unit at hand; running: at work or free; waiting: for a place, or to start
    again; units: at hand of all of them."""

    busy: int
    running: int
    waiting: int
    units: int


@dataclass(frozen=True)
class ActorPools:
    """The two actor pools, the CPUs a reader asks for (a writer asks for none), the threads of a forward pass, and the most
    readers at once, None: as many as find a place."""

    tokenize: ActorPool
    predict: ActorPool
    read_cpus: float
    threads: int
    readers: int | None = None


def size_pools(
    compute: Compute, cpus: float, gpus: float, per_worker: float | None = None, left: float | None = None
) -> ActorPools:
    """Pools that fit `cpus` and `gpus` with CPUs to spare. Raises JobError if what is asked for does not fit.

    per_worker: tokenizers that one predict worker keeps busy, as measured; there will be half as many again. left: CPUs
    of a cluster that has lost its largest node; everybody asks for so much less that all find a place there.
    """
    if cpus <= 0:
        raise JobError("the cluster has no CPUs: start a node of it, or wait for one")
    share = min(0.5, cpus / 4)  # reader + tokenizer + predictor = 4 shares: even one CPU holds them
    feed = _HEADROOM * (per_worker or (_PER_GPU if gpus else _PER_CPU))
    if gpus:
        predict = _workers(compute.predict.min, compute.predict.max, int(gpus), share, num_gpus=min(1.0, gpus))
        room = int((cpus - predict.max * share - share) / (2 * share))
        wanted = min(room, ceil(feed * predict.max))
        tokenize = _workers(compute.tokenize.min, compute.tokenize.max, wanted, 2 * share)
    else:
        room = int((cpus - share) / share - 2 * compute.predict.min)
        wanted = min(room, int(cpus * feed / (2 * share + feed * share)))  # of n * feed beside n predict workers
        tokenize = _workers(compute.tokenize.min, compute.tokenize.max, wanted, share)
        room = int((cpus - tokenize.max * share - share) / (2 * share))
        predict = _workers(compute.predict.min, compute.predict.max, room, 2 * share)
    needed = tokenize.max * tokenize.num_cpus + predict.max * predict.num_cpus + share
    if needed > cpus or predict.max * predict.num_gpus > gpus:  # with no CPU left to read, all would wait for ever
        raise JobError(
            f"compute: {tokenize.max} tokenize and {predict.max} predict actors and a reader need {needed:g} CPUs and "
            f"{predict.max * predict.num_gpus:g} GPUs; the cluster has {cpus:g} and {gpus:g}; ask for fewer"
        )
    threads = compute.threads or max(1, round(cpus / predict.max))
    pools = ActorPools(
        tokenize, predict, share / 2, threads
    )  # two readers at least: the next unit comes while one is read
    return _with_less(pools, cpus, left) if left else pools


def _with_less(pools: ActorPools, cpus: float, left: float) -> ActorPools:
    """Pools that fit `left` of the `cpus`, as Ray counts: the same actors and readers.

    Else those of a lost node take every CPU that is left as they start again, and no reader finds a place: a deadlock.
    Halves of halves, so that what is free on some nodes never adds up to what nobody can use.
    """
    part = 2.0 ** floor(log2(left / cpus))
    tokenize, predict = (replace(pool, num_cpus=pool.num_cpus * part) for pool in (pools.tokenize, pools.predict))
    taken = pools.tokenize.max * pools.tokenize.num_cpus + pools.predict.max * pools.predict.num_cpus
    readers = max(2, int((cpus - taken) / pools.read_cpus))
    return replace(pools, tokenize=tokenize, predict=predict, read_cpus=pools.read_cpus * part, readers=readers)


def _workers(least: int, most: int | None, wanted: int, num_cpus: float, num_gpus: float = 0.0) -> ActorPool:
    return ActorPool(least, most if most is not None else max(least, wanted), num_cpus, num_gpus)

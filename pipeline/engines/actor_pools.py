"""The sizes of the actor pools of a cluster.

No stage can take the resources that another stage needs, even after the cluster loses a node.
"""

from dataclasses import dataclass, replace
from math import ceil, floor, log2

from distilray.pipeline.errors import JobError
from distilray.pipeline.job.job import Compute

# Tokenizers that one predict worker keeps busy, if this was not measured. A GPU computes about as fast as two
# tokenizers work. On CPUs the forward pass is far more expensive than tokenizing.
_TOKENIZERS_PER_GPU, _TOKENIZERS_PER_CPU_WORKER = 2.0, 1 / 48
_TOKENIZER_HEADROOM = 1.5


@dataclass(frozen=True)
class ActorPool:
    """A pool of actors: the least and the largest number of them, and the resources that each requests from Ray."""

    min: int
    max: int
    num_cpus: float
    num_gpus: float = 0.0


@dataclass(frozen=True)
class ActorCounts:
    """The actors of a stage at one moment.

    busy: actors that compute a unit. running: actors that are busy or free. waiting: actors that wait for resources, or
    that restart. units: the units that all these actors compute or have queued.
    """

    busy: int
    running: int
    waiting: int
    units: int


@dataclass(frozen=True)
class ActorPools:
    """The two actor pools, and the resources of readers. Writers request no CPUs.

    read_cpus: the CPUs that a reader requests. threads: the CPU threads of a forward pass. readers: the largest number
    of readers at one time; None: as many as fit.
    """

    tokenize: ActorPool
    predict: ActorPool
    read_cpus: float
    threads: int
    readers: int | None = None


def size_pools(
    compute: Compute,
    cpus: float,
    gpus: float,
    tokenizers_per_worker: float | None = None,
    remaining_cpus: float | None = None,
) -> ActorPools:
    """Return pools that fit `cpus` and `gpus`, with CPUs to spare for readers.

    tokenizers_per_worker: the measured number of tokenizers that one predict worker keeps busy. The pool has 1.5 times
    as many tokenizers. remaining_cpus: the CPUs of the cluster after the loss of its largest node. If they are given,
    all actors and readers request fewer CPUs, so that all of them fit the remaining CPUs. Raises JobError if the
    numbers of workers in the job do not fit the cluster.
    """
    if cpus <= 0:
        raise JobError("the cluster has no CPUs: start a node that has CPUs, or wait for one")
    share = min(0.5, cpus / 4)  # a reader, a tokenizer and a predict worker take 4 shares, so that they fit one CPU
    default_tokenizers = _TOKENIZERS_PER_GPU if gpus else _TOKENIZERS_PER_CPU_WORKER
    tokenizers = _TOKENIZER_HEADROOM * (tokenizers_per_worker or default_tokenizers)
    if gpus:
        predict = _pool(compute.predict.min, compute.predict.max, int(gpus), share, num_gpus=min(1.0, gpus))
        fitting = int((cpus - predict.max * share - share) / (2 * share))
        best = min(fitting, ceil(tokenizers * predict.max))
        tokenize = _pool(compute.tokenize.min, compute.tokenize.max, best, 2 * share)
    else:
        fitting = int((cpus - share) / share - 2 * compute.predict.min)
        # n predict workers take n * 2 shares, and their tokenizers n * tokenizers shares
        best = min(fitting, int(cpus * tokenizers / (2 * share + tokenizers * share)))
        tokenize = _pool(compute.tokenize.min, compute.tokenize.max, best, share)
        fitting = int((cpus - tokenize.max * share - share) / (2 * share))
        predict = _pool(compute.predict.min, compute.predict.max, fitting, 2 * share)
    needed = tokenize.max * tokenize.num_cpus + predict.max * predict.num_cpus + share
    if needed > cpus or predict.max * predict.num_gpus > gpus:  # without a CPU to read, all actors would wait forever
        raise JobError(
            f"compute: {tokenize.max} tokenize and {predict.max} predict actors and a reader need {needed:g} CPUs and "
            f"{predict.max * predict.num_gpus:g} GPUs; the cluster has {cpus:g} and {gpus:g}; set fewer actors in "
            "compute.tokenize and compute.predict"
        )
    threads = compute.threads or max(1, round(cpus / predict.max))
    read_cpus = share / 2  # fits two readers, so that one can start a unit while the other reads
    pools = ActorPools(tokenize, predict, read_cpus, threads)
    return _shrink_requests(pools, cpus, remaining_cpus) if remaining_cpus else pools


def _shrink_requests(pools: ActorPools, cpus: float, remaining_cpus: float) -> ActorPools:
    """Return the same actors and readers with smaller CPU requests, so that all fit `remaining_cpus` of the `cpus`.

    With full requests, the restarted actors of a lost node would take all remaining CPUs, no reader would fit, and the
    run would be deadlocked. The factor is a power of two, so that the free parts of the nodes always add up to whole
    requests.
    """
    factor = 2.0 ** floor(log2(remaining_cpus / cpus))
    tokenize, predict = (replace(pool, num_cpus=pool.num_cpus * factor) for pool in (pools.tokenize, pools.predict))
    taken = pools.tokenize.max * pools.tokenize.num_cpus + pools.predict.max * pools.predict.num_cpus
    readers = max(2, int((cpus - taken) / pools.read_cpus))
    return replace(pools, tokenize=tokenize, predict=predict, read_cpus=pools.read_cpus * factor, readers=readers)


def _pool(least: int, most: int | None, best: int, num_cpus: float, num_gpus: float = 0.0) -> ActorPool:
    return ActorPool(least, most if most is not None else max(least, best), num_cpus, num_gpus)

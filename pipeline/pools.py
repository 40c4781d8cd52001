"""How many workers of each kind a cluster holds, so that no stage can starve another."""

from dataclasses import dataclass

from distilray.pipeline.errors import JobError
from distilray.pipeline.job import Compute

_TOKENIZERS_PER_GPU = 8
_PREDICTORS_PER_TOKENIZER = 8  # on CPUs, where the forward pass is far dearer than tokenizing


@dataclass(frozen=True)
class Workers:
    """A pool: least and most actors, and what each asks of Ray."""

    min: int
    max: int
    num_cpus: float
    num_gpus: float = 0.0


@dataclass(frozen=True)
class Pools:
    """The two actor pools; reading runs in the tokenizers, writing asks for nothing. threads: of a forward pass."""

    tokenize: Workers
    predict: Workers
    threads: int


def size_pools(compute: Compute, cpus: float, gpus: float) -> Pools:
    """Pools that fit `cpus` and `gpus` with CPUs to spare. Raises JobError if their least sizes do not fit."""
    share = min(0.5, cpus / 4)  # tokenizer + predictor + spare = 4 shares: even one CPU holds them
    if gpus:
        predict = _workers(compute.predict.min, compute.predict.max, int(gpus), share, num_gpus=min(1.0, gpus))
        room = int((cpus - predict.max * share - share) / (2 * share))
        wanted = min(room, _TOKENIZERS_PER_GPU * int(gpus))
        tokenize = _workers(compute.tokenize.min, compute.tokenize.max, wanted, 2 * share)
    else:
        wanted = int(cpus / (_PREDICTORS_PER_TOKENIZER * 2 * share))
        tokenize = _workers(compute.tokenize.min, compute.tokenize.max, wanted, share)
        room = int((cpus - tokenize.max * share - share) / (2 * share))
        predict = _workers(compute.predict.min, compute.predict.max, room, 2 * share)
    needed = tokenize.min * tokenize.num_cpus + predict.min * predict.num_cpus
    if needed > cpus or predict.min * predict.num_gpus > gpus:
        raise JobError(
            f"compute: at least {tokenize.min} tokenize and {predict.min} predict actors need {needed:g} CPUs and "
            f"{predict.min * predict.num_gpus:g} GPUs; the cluster has {cpus:g} and {gpus:g}"
        )
    threads = compute.threads or max(1, round(cpus / predict.max))
    return Pools(tokenize, predict, threads)


def _workers(least: int, most: int | None, wanted: int, num_cpus: float, num_gpus: float = 0.0) -> Workers:
    return Workers(least, most if most is not None else max(least, wanted), num_cpus, num_gpus)

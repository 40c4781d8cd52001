"""The configuration of a worker: how it reads, computes and isolates rows."""

from collections.abc import Sequence
from dataclasses import dataclass

from distilray.model.network.names import AttentionName, DtypeName
from distilray.operators.isolation.attempts import Isolation
from distilray.operators.read import Read
from distilray.operators.tasks.task import Task


@dataclass(frozen=True)
class ComputeSpec:
    """The settings with which a worker computes.

    threads: the number of CPU threads of a forward pass. None means torch's default. parity: the share of the rows that
    is compared with a float32 reference.
    """

    dtype: DtypeName = "auto"
    attention: AttentionName = "auto"
    tokens_per_pack: int | None = None
    threads: int | None = None
    parity: float = 0.0


@dataclass(frozen=True)
class WorkerConfig:
    """The configuration of a worker, as plain, picklable data. Each worker opens models, tokenizers and files from it."""

    read: Read
    tasks: Sequence[Task]
    compute: ComputeSpec
    isolation: Isolation

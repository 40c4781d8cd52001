"""Everything a worker must know to take a unit from its shard to its answers."""

from collections.abc import Sequence
from dataclasses import dataclass

from distilray.model.network.names import AttentionName, DtypeName
from distilray.operators.isolation.bisect import Isolation
from distilray.operators.read import Read
from distilray.operators.tasks.task import Task


@dataclass(frozen=True)
class ComputeSpec:
    """How a worker computes. threads: CPU threads of a forward pass, None: torch's default; parity: which share of the rows
    is compared with a float32 reference."""

    dtype: DtypeName = "auto"
    attention: AttentionName = "auto"
    tokens_per_pack: int | None = None
    threads: int | None = None
    parity: float = 0.0


@dataclass(frozen=True)
class WorkerConfig:
    """Plain, picklable data: models, tokenizers and files are opened from it where they are used."""

    read: Read
    tasks: Sequence[Task]
    compute: ComputeSpec
    isolation: Isolation

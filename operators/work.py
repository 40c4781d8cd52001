"""Everything a worker must know to take a unit from its shard to its answers."""

from collections.abc import Sequence
from dataclasses import dataclass

from distilray.operators.guard import Guard
from distilray.operators.read import Read
from distilray.operators.task import ComputeSpec, Task


@dataclass(frozen=True)
class Work:
    """Plain, picklable data: models, tokenizers and files are opened from it where they are used."""

    read: Read
    tasks: Sequence[Task]
    compute: ComputeSpec
    guard: Guard

"""How long each stage worked on a unit and what its predict worker waited for; it travels in the table's schema metadata.

It never comes into a file: the same unit is the same bytes, however long it took.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import wraps
from typing import Any, TypeVar

import pyarrow as pa

_KEY = b"distilray.timing"

Operator = TypeVar("Operator")
Given = TypeVar("Given")


@dataclass(frozen=True)
class Seconds:
    """What a unit took, or many. read, tokenize, predict, write: at work; starved: the predict worker was free and there
    were no tokens yet; held: there were, but its last unit was not handed over or this one not yet dispatched; starting:
    either of them before the worker's first unit.
    """

    read: float = 0.0
    tokenize: float = 0.0
    predict: float = 0.0
    write: float = 0.0
    starting: float = 0.0
    starved: float = 0.0
    held: float = 0.0


@dataclass(frozen=True)
class Timing(Seconds):
    """Of one unit. tokenized, predicted: when these were done, by the wall clock; worker: which predict worker did it."""

    tokenized: float = 0.0
    predicted: float = 0.0
    worker: str = ""


def timed(stage: str) -> Callable[[Callable[[Operator, Given], pa.Table]], Callable[[Operator, Given], pa.Table]]:
    """Makes an operator's call note its seconds in the table it gives, beside what the table it got says."""

    def decorate(call: Callable[[Operator, Given], pa.Table]) -> Callable[[Operator, Given], pa.Table]:
        @wraps(call)
        def measured(operator: Operator, given: Given) -> pa.Table:
            start = time.time()
            table = call(operator, given)
            end = time.time()
            done = {"tokenized": end} if stage == "tokenize" else {}
            return note(table, given, **{stage: end - start}, **done)

        return measured

    return decorate


def note(table: pa.Table, given: Any, **more: Any) -> pa.Table:
    """The table with what `given` says of its stages, if it is a table, and more."""
    said = asdict(timing_of(given)) if isinstance(given, pa.Table) else {}
    return table.replace_schema_metadata({_KEY: json.dumps(said | more)})


def timing_of(table: pa.Table) -> Timing:
    """What the stages noted so far."""
    return Timing(**json.loads((table.schema.metadata or {}).get(_KEY, "{}")))


def waits(free: float, tokenized: float, start: float) -> tuple[float, float]:
    """Seconds that a worker, free since `free`, was starved and was held up before it could `start`.

    Clocks of two machines may differ by a little: nothing becomes negative by it.
    """
    gap = max(start - free, 0.0)
    starved = min(max(tokenized - free, 0.0), gap)
    return starved, gap - starved

"""The seconds of each stage of a unit and the waiting times of its predict worker.

They travel in the schema metadata of the table. They are in no file, so that equal units have equal bytes.
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
Input = TypeVar("Input")


@dataclass(frozen=True)
class Seconds:
    """The seconds of one unit, or the sum over many units.

    read, tokenize, predict, write: the computing time of each stage. starved: the time in which the predict worker was
    free and the tokens were not ready. held: the time in which the tokens were ready, but the worker's last unit was not
    yet handed over, or this unit was not yet dispatched. starting: both waiting times before the worker's first unit.
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
    """The timing of one unit.

    tokenized, predicted: the wall-clock times at which these stages ended. worker: the name of the predict worker.
    """

    tokenized: float = 0.0
    predicted: float = 0.0
    worker: str = ""


def timed(stage: str) -> Callable[[Callable[[Operator, Input], pa.Table]], Callable[[Operator, Input], pa.Table]]:
    """Decorate the call of an operator, so that it adds its seconds to the timing that its input table carries."""

    def decorate(call: Callable[[Operator, Input], pa.Table]) -> Callable[[Operator, Input], pa.Table]:
        @wraps(call)
        def measured(operator: Operator, source: Input) -> pa.Table:
            start = time.time()
            table = call(operator, source)
            end = time.time()
            ended = {"tokenized": end} if stage == "tokenize" else {}
            return add_timing(table, source, **{stage: end - start}, **ended)

        return measured

    return decorate


def add_timing(table: pa.Table, source: Any, **more: Any) -> pa.Table:
    """Return the table with the timing of `source`, if that is a table, and with the values in `more`."""
    timing = asdict(timing_of(source)) if isinstance(source, pa.Table) else {}
    return table.replace_schema_metadata({_KEY: json.dumps(timing | more)})


def timing_of(table: pa.Table) -> Timing:
    """Return the timing that a table carries."""
    return Timing(**json.loads((table.schema.metadata or {}).get(_KEY, "{}")))


def waits(free: float, tokenized: float, start: float) -> tuple[float, float]:
    """Return the seconds for which a worker was starved and the seconds for which it was held.

    free: the time at which the worker became free. tokenized: the time at which the tokens were ready. start: the time
    at which the worker began the unit. No result is negative, although the clocks of two machines may
    differ.
    """
    gap = max(start - free, 0.0)
    starved = min(max(tokenized - free, 0.0), gap)
    return starved, gap - starved

"""Calls of a step on a unit. Rows that make the step fail become dead letters.

Rows that raise are found by bisection, see bisect.py. If a worker's process ends (a segfault, the kernel's out-of-memory
killer, a deadline), its mark remains on the machine's disk, see attempts.py. The next attempt at the unit on that machine
sends it in small parts to a sandbox process, see sandbox.py.
"""

import logging
import platform
from collections.abc import Callable, Iterator
from functools import partial

import pyarrow as pa

from distilray.operators.errors import SandboxError
from distilray.operators.isolation.attempts import MAX_FAILED_ROWS, Isolation
from distilray.operators.isolation.bisect import (
    Call,
    as_dead_letters,
    call_bisecting,
    concat_parts,
    count_alive,
    split_rows,
)
from distilray.operators.isolation.sandbox import Sandbox, SandboxDiedError
from distilray.operators.rows import schema as s

log = logging.getLogger(__name__)

_ROWS = 64  # the size of a part; the rows of a part that ends the process are computed one by one


def call_isolated(
    isolation: Isolation | None, stage: str, call: Call, make_call: Callable[[], Call], table: pa.Table
) -> pa.Table:
    """Return what `call` returns for the rows of a unit.

    With `isolation`, rows that make `call` fail become dead letters. make_call: a function that creates `call`
    in another process.
    """
    if isolation is None:
        return call(table)
    unit = str(table[s.UNIT][0].as_py())
    with isolation.attempt(stage, unit) as crashed:
        if crashed:
            log.warning("an earlier attempt to %s unit %s ended its worker: using a separate process", stage, unit)
            return call_in_sandbox(table, stage, call, make_call, isolation.deadline, isolation.max_failed_rows)
        return call_bisecting(call, table, stage, isolation.max_failed_rows)


def call_in_sandbox(
    table: pa.Table,
    stage: str,
    call: Call,
    make_call: Callable[[], Call],
    deadline: float | None = None,
    max_failed_rows: int | None = MAX_FAILED_ROWS,
) -> pa.Table:
    """Return what `call` returns for the rows. Rows that raise or end the sandbox process become dead letters.

    make_call: a function that creates `call` in another process. Raises SandboxError if `make_call` fails, if `call` raises for all rows, or
    if `max_failed_rows` consecutive rows end their process, because then the rows are not the cause.
    """
    with Sandbox(stage, partial(_bisecting, stage, make_call, max_failed_rows), deadline) as sandbox:
        failed = 0  # consecutive rows that ended their process

        def attempt(part: pa.Table) -> Iterator[pa.Table]:
            nonlocal failed
            is_single = part.num_rows == 1
            try:
                result = sandbox.ask_with_retry(part) if is_single else sandbox.ask(part)
            except SandboxDiedError as error:
                if not is_single:
                    for piece in split_rows(part, 1):
                        yield from attempt(piece)
                    return
                failed += 1
                if max_failed_rows and failed >= max_failed_rows:
                    raise SandboxError(_rows_not_the_cause(stage, failed, error)) from None
                yield call(as_dead_letters(part, stage, error.reason, str(error)))
            else:
                failed = 0 if count_alive(result) else failed
                yield result

        return concat_parts([result for part in split_rows(table, _ROWS) for result in attempt(part)])


def _rows_not_the_cause(stage: str, rows: int, error: SandboxDiedError) -> str:
    return (
        f"{stage}: {rows} consecutive rows each ended a separate process on {platform.node()}; the last one: {error}; "
        "check the memory and the devices of that machine, or, if the rows are the cause, set max_dead"
    )


def _bisecting(stage: str, make_call: Callable[[], Call], max_failed_rows: int | None) -> Call:
    call = make_call()
    return lambda table: call_bisecting(call, table, stage, max_failed_rows)

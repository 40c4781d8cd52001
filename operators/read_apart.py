"""A unit whose reading ended its worker, row group by row group in a process of its own: Arrow aborts at some hostile bytes."""

import logging
from dataclasses import replace
from functools import partial

import pyarrow as pa

from distilray.operators import schema as s
from distilray.operators.guard import Guard
from distilray.operators.read import Read, Unit, picked
from distilray.operators.sandbox import DiedError, Sandbox

log = logging.getLogger(__name__)


def read_guarded(read: Read, guard: Guard, unit: Unit) -> pa.Table:
    """What `read` gives; rows of row groups that end their worker are dead."""
    with guard.begun("read", unit.name) as died:
        if not died or unit.error:
            return read(unit)
        log.warning("reading unit %s ended its worker: trying it in a process of its own", unit.name)
        with Sandbox("read", partial(replace, read, deadline=guard.deadline), guard.deadline) as sandbox:
            table = pa.concat_tables(
                [_part(sandbox, read, part) for part in read.parts(replace(unit, pick=None))]
            ).combine_chunks()
    number = table.column_names.index(s.UNIT_ROWS)
    whole = table.set_column(number, s.UNIT_ROWS, pa.repeat(pa.scalar(unit.rows, pa.int64()), table.num_rows))
    return picked(whole, unit)


def _part(sandbox: Sandbox, read: Read, part: Unit) -> pa.Table:
    try:
        table: pa.Table = sandbox.tried(part)
    except DiedError as death:
        return read.dead(part, death.reason, f"row group {part.row_groups[0]}: {death}")
    return table

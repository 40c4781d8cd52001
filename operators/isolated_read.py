"""A unit whose reading ended its worker, row group by row group in a process of its own: Arrow aborts at some hostile bytes."""

import logging
from dataclasses import replace
from functools import partial

import pyarrow as pa

from distilray.operators.isolation.bisect import Isolation
from distilray.operators.isolation.sandbox import Sandbox, SandboxDiedError
from distilray.operators.read import Read, picked
from distilray.operators.rows import schema as s
from distilray.operators.rows.unit import Unit

log = logging.getLogger(__name__)


def read_guarded(read: Read, isolation: Isolation, unit: Unit) -> pa.Table:
    """What `read` gives; rows of row groups that end their worker are dead."""
    with isolation.attempt("read", unit.name) as died:
        if not died or unit.error:
            return read(unit)
        log.warning("reading unit %s ended its worker: trying it in a process of its own", unit.name)
        with Sandbox("read", partial(replace, read, deadline=isolation.deadline), isolation.deadline) as sandbox:
            table = pa.concat_tables(
                [_part(sandbox, read, part) for part in read.parts(replace(unit, only_rows=None))]
            ).combine_chunks()
    number = table.column_names.index(s.UNIT_ROWS)
    whole = table.set_column(number, s.UNIT_ROWS, pa.repeat(pa.scalar(unit.rows, pa.int64()), table.num_rows))
    return picked(whole, unit)


def _part(sandbox: Sandbox, read: Read, part: Unit) -> pa.Table:
    try:
        table: pa.Table = sandbox.ask_with_retry(part)
    except SandboxDiedError as death:
        return read.dead(part, death.reason, f"row group {part.row_groups[0]}: {death}")
    return table

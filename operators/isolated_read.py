"""Reading of a unit in a sandbox process, one row group at a time, if an earlier read of the unit ended its worker.

Arrow aborts the process on some invalid bytes.
"""

import logging
from dataclasses import replace
from functools import partial

import pyarrow as pa

from distilray.operators.isolation.attempts import Isolation
from distilray.operators.isolation.sandbox import Sandbox, SandboxDiedError
from distilray.operators.read import Read, select_rows
from distilray.operators.rows import schema as s
from distilray.operators.rows.unit import Unit

log = logging.getLogger(__name__)


def read_isolated(read: Read, isolation: Isolation, unit: Unit) -> pa.Table:
    """Read a unit as `read` does. The rows of a row group that ends its process become dead letters."""
    with isolation.attempt("read", unit.name) as crashed:
        if not crashed or unit.error:
            return read(unit)
        log.warning("an earlier attempt to read unit %s ended its worker: reading it in a separate process", unit.name)
        with Sandbox("read", partial(replace, read, deadline=isolation.deadline), isolation.deadline) as sandbox:
            table = pa.concat_tables(
                [_read_part(sandbox, read, part) for part in read.parts(replace(unit, only_rows=None))]
            ).combine_chunks()
    number = table.column_names.index(s.UNIT_ROWS)
    whole = table.set_column(number, s.UNIT_ROWS, pa.repeat(pa.scalar(unit.rows, pa.int64()), table.num_rows))
    return select_rows(whole, unit)


def _read_part(sandbox: Sandbox, read: Read, part: Unit) -> pa.Table:
    try:
        table: pa.Table = sandbox.ask_with_retry(part)
    except SandboxDiedError as error:
        return read.dead(part, error.reason, f"row group {part.row_groups[0]}: {error}")
    return table

"""The first rows of a unit's data object, with the stats in its footer."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from distilray.model.errors import StoreError
from distilray.model.storage.store import explain
from distilray.operators.objects.stats import Stats
from distilray.operators.objects.unit_object import read_record
from distilray.operators.objects.watched_file import WatchedFile
from distilray.operators.rows.unit import Unit
from distilray.pipeline.errors import JobError
from distilray.pipeline.sink.output import Output

_BUFFER_BYTES, _BATCH_ROWS = 2**20, 1024


@dataclass(frozen=True)
class FirstRows:
    """The first rows of a unit. stats: the stats of the whole unit."""

    rows: pa.Table
    stats: Stats


def read_first_rows(output: Output, unit: Unit, columns: Sequence[str], max_rows: int) -> FirstRows:
    """Read the first `max_rows` answered rows of a committed unit, or all of them if the unit has fewer.

    columns: the columns to read. Raises JobError if the object cannot be read, StoreError if the store fails.
    """
    path = f"{output.root}/data/{unit.name}.parquet"
    try:
        with output.fs.open(path, "rb") as file:
            source = pa.PythonFile(WatchedFile(file, output.fs.size(path), path), mode="r")
            parquet = pq.ParquetFile(source, page_checksum_verification=True, buffer_size=_BUFFER_BYTES)
            schema = pa.schema([parquet.schema_arrow.field(name) for name in columns])
            batches: list[pa.RecordBatch] = []
            for batch in parquet.iter_batches(min(_BATCH_ROWS, max_rows), columns=list(columns)):
                batches.append(batch.select(columns))
                if sum(map(len, batches)) >= max_rows:
                    break
            table = pa.Table.from_batches(batches, schema).slice(0, max_rows)
            return FirstRows(table, read_record(parquet.metadata).stats)
    except StoreError:
        raise
    except Exception as error:  # stores and Arrow raise exceptions of many types
        raise JobError(f"cannot read data/{unit.name}.parquet of {output.uri}: {explain(error)}") from error

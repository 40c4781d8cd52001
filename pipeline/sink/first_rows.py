"""The first rows of a unit's data object, and what its footer says of it."""

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

_BUFFER, _BATCH = 2**20, 1024  # bytes and rows at a time


@dataclass(frozen=True)
class FirstRows:
    """Some rows of a unit, and the stats of all of it."""

    rows: pa.Table
    stats: Stats


def read_first_rows(output: Output, unit: Unit, columns: Sequence[str], most: int) -> FirstRows:
    """The first `most` answered rows of a committed unit, or all it has. Raises JobError or StoreError if they cannot be read."""
    path = f"{output.root}/data/{unit.name}.parquet"
    try:
        with output.fs.open(path, "rb") as file:
            source = pa.PythonFile(WatchedFile(file, output.fs.size(path), path), mode="r")
            parquet = pq.ParquetFile(source, page_checksum_verification=True, buffer_size=_BUFFER)
            schema = pa.schema([parquet.schema_arrow.field(name) for name in columns])
            found: list[pa.RecordBatch] = []
            for batch in parquet.iter_batches(min(_BATCH, most), columns=list(columns)):
                found.append(batch.select(columns))
                if sum(map(len, found)) >= most:
                    break
            table = pa.Table.from_batches(found, schema).slice(0, most)
            return FirstRows(table, read_record(parquet.metadata).stats)
    except StoreError:
        raise
    except Exception as error:  # every store has its own exceptions, and Arrow some more
        raise JobError(f"cannot read data/{unit.name}.parquet of {output.uri}: {explain(error)}") from error

"""The Parquet objects of a local output."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from distilray.operators.objects.unit_object import encode_parquet
from tests.support import metadata_of


def objects(out: Path, part: str) -> list[Path]:
    return sorted((out / part).glob("*.parquet"))


def edit(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Rewrite a Parquet file with a changed table and the same metadata."""
    path.write_bytes(encode_parquet(change(pq.read_table(path)), metadata_of(path)))

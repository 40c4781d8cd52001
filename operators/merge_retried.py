"""Rows of a unit that were dead and are answered now, put beside those that its object holds; and dead/ made to agree."""

import base64
import io
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from distilray.operators.objects.object_store import remove_object, write_object
from distilray.operators.objects.stats import Stats
from distilray.operators.objects.unit_object import (
    DEAD_LETTERS_KEY,
    digest_dead_letters,
    encode_parquet,
    footer,
    read_record,
    with_dead_letters,
)
from distilray.operators.rows import schema as s
from distilray.operators.write import Write


@dataclass(frozen=True)
class MergeRetried(Write):
    """Like `Write` of the rows that were dead: the unit's object with those added that are answered now is its new commit.

    It is a single put, and it says which dead letters are left, so that dead/ can be made to agree with it at any time.
    A merge that was done already, by a try that died after its put, is not done again.
    """

    def commit(self, fs: Any, root: str, unit: str, data: pa.Table, dead: pa.Table, stats: Stats) -> None:
        path = f"{root}/data/{unit}.parquet"
        file = pq.ParquetFile(io.BytesIO(fs.cat_file(path)), page_checksum_verification=True)
        known, old = read_record(file.metadata), file.read()
        tried = pa.concat_tables([data.select([s.ROW]), dead.select([s.ROW])])[s.ROW]
        merged = pc.any(pc.is_in(tried, value_set=old[s.ROW])).as_py()
        if not merged and digest_dead_letters(dead) != known.dead:
            rows = pa.concat_tables([old.replace_schema_metadata(None), data.replace_schema_metadata(None)])
            whole = rows.sort_by(s.ROW)
            about = footer(unit, dead, _merged(known.stats, stats))
            letters = encode_parquet(dead, about) if dead.num_rows else b""
            write_object(fs, path, encode_parquet(whole, with_dead_letters(about, letters)))
        write_dead_letters(fs, root, unit)


def write_dead_letters(fs: Any, root: str, unit: str) -> None:
    """Makes the dead object of a unit what its data object says it is, if that says so: before version 0.4 not all did."""
    file = io.BytesIO(fs.cat_file(f"{root}/data/{unit}.parquet"))
    encoded = (pq.read_metadata(file).metadata or {}).get(DEAD_LETTERS_KEY)
    if encoded is None:
        return
    letters, path = base64.b64decode(encoded), f"{root}/dead/{unit}.parquet"
    if letters:
        write_object(fs, path, letters)
    else:
        remove_object(fs, path)


def _merged(old: Stats, new: Stats) -> Stats:
    """Of a unit whose dead rows were tried again."""
    both = old + new
    return replace(both, units=1, dead=new.dead, backends=dict.fromkeys(both.backends, 1))

"""Rows of a unit that were dead and are answered now, put beside those that its object holds; and dead/ made to agree."""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from json import loads
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from distilray.operators import schema as s
from distilray.operators.storage import put, remove
from distilray.operators.write import (
    DEAD_KEY,
    LETTERS_KEY,
    STATS_KEY,
    UNIT_KEY,
    Stats,
    Write,
    digest,
    footer,
    parquet,
    with_letters,
)


@dataclass(frozen=True)
class Record:
    """What the footer of a unit's object says. rows: in the file; unit: whose it is, None before version 0.4; dead: which dead
    letters belong to it; letters: whether it holds their object, or says that a retry left none."""

    rows: int
    stats: Stats
    unit: str | None
    dead: str
    letters: bool


def read_record(file: pq.FileMetaData) -> Record:
    """Raises ValueError for the footer of a file that distilray did not write."""
    about: Mapping[bytes, bytes] = file.metadata or {}
    if STATS_KEY not in about:
        raise ValueError(f"expected the key {STATS_KEY.decode()} in its footer, got {sorted(about)}")
    try:
        stats = Stats(**loads(about[STATS_KEY]))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{STATS_KEY.decode()} in its footer: {error}") from error
    unit = about.get(UNIT_KEY)
    dead = about.get(DEAD_KEY, repr(sorted(stats.dead.items())).encode())  # before version 0.4
    return Record(
        file.num_rows,
        stats,
        unit.decode() if unit is not None else None,
        dead.decode(),
        LETTERS_KEY in about,
    )


@dataclass(frozen=True)
class Merge(Write):
    """Like `Write` of the rows that were dead: the unit's object with those added that are answered now is its new commit.

    It is a single put, and it says which dead letters are left, so that dead/ can be made to agree with it at any time.
    A merge that was done already, by a try that died after its put, is not done again.
    """

    def put(self, fs: Any, root: str, unit: str, data: pa.Table, dead: pa.Table, stats: Stats) -> None:
        path = f"{root}/data/{unit}.parquet"
        file = pq.ParquetFile(io.BytesIO(fs.cat_file(path)), page_checksum_verification=True)
        known, old = read_record(file.metadata), file.read()
        tried = pa.concat_tables([data.select([s.ROW]), dead.select([s.ROW])])[s.ROW]
        merged = pc.any(pc.is_in(tried, value_set=old[s.ROW])).as_py()
        if not merged and digest(dead) != known.dead:
            rows = pa.concat_tables([old.replace_schema_metadata(None), data.replace_schema_metadata(None)])
            whole = rows.sort_by(s.ROW)
            about = footer(unit, dead, _merged(known.stats, stats))
            letters = parquet(dead, about) if dead.num_rows else b""
            put(fs, path, parquet(whole, with_letters(about, letters)))
        put_letters(fs, root, unit)


def put_letters(fs: Any, root: str, unit: str) -> None:
    """Makes the dead object of a unit what its data object says it is, if that says so: before version 0.4 not all did."""
    file = io.BytesIO(fs.cat_file(f"{root}/data/{unit}.parquet"))
    encoded = (pq.read_metadata(file).metadata or {}).get(LETTERS_KEY)
    if encoded is None:
        return
    letters, path = base64.b64decode(encoded), f"{root}/dead/{unit}.parquet"
    if letters:
        put(fs, path, letters)
    else:
        remove(fs, path)


def _merged(old: Stats, new: Stats) -> Stats:
    """Of a unit whose dead rows were tried again."""
    both = old + new
    return replace(both, units=1, dead=new.dead, backends=dict.fromkeys(both.backends, 1))

"""The merge step of a retry, which adds newly answered rows to the data object of their unit.

The step also makes the dead letters in dead/ agree with the data object.
"""

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
    """The write step for rows that were dead letters. It adds the newly answered rows to the data object of the unit.

    One object write replaces the data object, and this write is the new commit. The new footer embeds the remaining
    dead letters, so that dead/ can be made to agree with it at any time. If an earlier attempt was interrupted after
    this commit, the merge is not repeated.
    """

    def commit(self, fs: Any, root: str, unit: str, data: pa.Table, dead: pa.Table, stats: Stats) -> None:
        path = f"{root}/data/{unit}.parquet"
        file = pq.ParquetFile(io.BytesIO(fs.cat_file(path)), page_checksum_verification=True)
        record, old = read_record(file.metadata), file.read()
        retried = pa.concat_tables([data.select([s.ROW]), dead.select([s.ROW])])[s.ROW]
        merged = pc.any(pc.is_in(retried, value_set=old[s.ROW])).as_py()
        if not merged and digest_dead_letters(dead) != record.dead:
            rows = pa.concat_tables([old.replace_schema_metadata(None), data.replace_schema_metadata(None)])
            whole = rows.sort_by(s.ROW)
            metadata = footer(unit, dead, _merged(record.stats, stats))
            dead_letters = encode_parquet(dead, metadata) if dead.num_rows else b""
            write_object(fs, path, encode_parquet(whole, with_dead_letters(metadata, dead_letters)))
        write_dead_letters(fs, root, unit)


def write_dead_letters(fs: Any, root: str, unit: str) -> None:
    """Write the dead letters that the data object of a unit embeds, or remove their object if there are none.

    A data object written before version 0.4 may embed nothing. In that case the dead letters stay unchanged.
    """
    file = io.BytesIO(fs.cat_file(f"{root}/data/{unit}.parquet"))
    encoded = (pq.read_metadata(file).metadata or {}).get(DEAD_LETTERS_KEY)
    if encoded is None:
        return
    dead_letters, path = base64.b64decode(encoded), f"{root}/dead/{unit}.parquet"
    if dead_letters:
        write_object(fs, path, dead_letters)
    else:
        remove_object(fs, path)


def _merged(old: Stats, new: Stats) -> Stats:
    """Return the Stats of a unit after a retry. new: those of the retried rows."""
    both = old + new
    return replace(both, units=1, dead=new.dead, backends=dict.fromkeys(both.backends, 1))

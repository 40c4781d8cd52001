"""The objects of a unit: their bytes and their footers."""

import base64
import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from json import loads

import pyarrow as pa
import pyarrow.parquet as pq

from distilray.operators.errors import UnitError
from distilray.operators.objects.stats import Stats
from distilray.operators.rows import schema as s

# in the footers of a unit's objects: its Stats, its name, which dead letters belong to it
STATS_KEY, UNIT_KEY, DEAD_KEY = b"distilray.stats", b"distilray.unit", b"distilray.dead"


DEAD_LETTERS_KEY = b"distilray.letters"  # of a data object: the object of its dead letters, empty if a retry left none


DEAD_LETTERS_BYTES = 3 * 2**24  # 64 MiB in base64, half of what pipeline/footers.py reads


def footer(unit: str, dead: pa.Table, stats: Stats) -> dict[bytes, str]:
    """What both objects of a unit say of it."""
    return {STATS_KEY: json.dumps(asdict(stats)), UNIT_KEY: unit, DEAD_KEY: digest_dead_letters(dead)}


def with_dead_letters(about: Mapping[bytes, str], letters: bytes) -> dict[bytes, str]:
    """The footer of a data object that holds its dead letters' object too, so that it can be put again. Raises UnitError for
    more of it than footers are read."""
    if len(letters) > DEAD_LETTERS_BYTES:
        unit, found, most = about[UNIT_KEY], len(letters) >> 20, DEAD_LETTERS_BYTES >> 20
        todo = "lower compute.unit_bytes, or leave out their texts (sink.dead_text)"
        raise UnitError(
            f"unit {unit}: its dead letters have {found} MiB, more than {most}; {todo}; nothing was committed"
        )
    return {**about, DEAD_LETTERS_KEY: base64.b64encode(letters).decode()}


def digest_dead_letters(dead: pa.Table) -> str:
    """Tells which rows are dead and why; messages may differ from try to try."""
    letters = list(zip(dead[s.ROW].to_pylist(), dead[s.REASON].to_pylist(), strict=True))
    return hashlib.sha256(json.dumps(letters).encode()).hexdigest()[:32]


def encode_parquet(table: pa.Table, about: Mapping[bytes, str]) -> bytes:
    """The file in memory: it holds no time and no place, so that the same unit is the same bytes."""
    buffer, plain = io.BytesIO(), table.replace_schema_metadata(None)
    with pq.ParquetWriter(buffer, plain.schema, compression="zstd", write_page_checksum=True) as writer:
        writer.write_table(plain)
        writer.add_key_value_metadata(dict(about))  # as the schema's metadata, all of it would be there twice
    return buffer.getvalue()


@dataclass(frozen=True)
class UnitRecord:
    """What the footer of a unit's object says. rows: in the file; unit: whose it is, None before version 0.4; dead: which dead
    letters belong to it; letters: whether it holds their object, or says that a retry left none."""

    rows: int
    stats: Stats
    unit: str | None
    dead: str
    letters: bool


def read_record(file: pq.FileMetaData) -> UnitRecord:
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
    return UnitRecord(
        file.num_rows,
        stats,
        unit.decode() if unit is not None else None,
        dead.decode(),
        DEAD_LETTERS_KEY in about,
    )

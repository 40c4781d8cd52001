"""The bytes and the footers of the objects of a unit."""

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

# keys in the footers of a unit's objects: its Stats, its name, the digest of its dead letters
STATS_KEY, UNIT_KEY, DEAD_KEY = b"distilray.stats", b"distilray.unit", b"distilray.dead"

# in the footer of a data object: a copy of the object of its dead letters, empty if a retry left none
DEAD_LETTERS_KEY = b"distilray.letters"

DEAD_LETTERS_BYTES = 3 * 2**24  # 64 MiB in base64, half of the largest footer that pipeline/corpus/footers.py reads


def footer(unit: str, dead: pa.Table, stats: Stats) -> dict[bytes, str]:
    """Return the footer metadata that both objects of a unit share. dead: its dead letters."""
    return {STATS_KEY: json.dumps(asdict(stats)), UNIT_KEY: unit, DEAD_KEY: digest_dead_letters(dead)}


def with_dead_letters(metadata: Mapping[bytes, str], dead_letters: bytes) -> dict[bytes, str]:
    """Add the object of the dead letters to the metadata of a data object, so that dead/ can be restored.

    Raises UnitError if the dead letters are too large for a footer.
    """
    if len(dead_letters) > DEAD_LETTERS_BYTES:
        unit, size, limit = metadata[UNIT_KEY], len(dead_letters) >> 20, DEAD_LETTERS_BYTES >> 20
        advice = "lower compute.unit_bytes, or leave out their texts (sink.dead_text)"
        raise UnitError(
            f"unit {unit}: its dead letters have {size} MiB, more than {limit}; {advice}; nothing was committed"
        )
    return {**metadata, DEAD_LETTERS_KEY: base64.b64encode(dead_letters).decode()}


def digest_dead_letters(dead: pa.Table) -> str:
    """Return a digest of the dead rows and their reasons. Messages are omitted, because they may differ between attempts."""
    reasons = list(zip(dead[s.ROW].to_pylist(), dead[s.REASON].to_pylist(), strict=True))
    return hashlib.sha256(json.dumps(reasons).encode()).hexdigest()[:32]


def encode_parquet(table: pa.Table, metadata: Mapping[bytes, str]) -> bytes:
    """Encode a Parquet file with footer metadata. The file holds no time and no path, so equal units have equal bytes."""
    buffer, plain = io.BytesIO(), table.replace_schema_metadata(None)
    with pq.ParquetWriter(buffer, plain.schema, compression="zstd", write_page_checksum=True) as writer:
        writer.write_table(plain)
        writer.add_key_value_metadata(dict(metadata))  # as schema metadata, Parquet would store it twice
    return buffer.getvalue()


@dataclass(frozen=True)
class UnitRecord:
    """The content of the footer of a unit's object.

    rows: the rows of the file. unit: the name of the unit, None before version 0.4. dead: the digest of the dead
    letters. letters: whether the footer embeds the object of the dead letters, or states that a retry left none.
    """

    rows: int
    stats: Stats
    unit: str | None
    dead: str
    letters: bool


def read_record(file: pq.FileMetaData) -> UnitRecord:
    """Read the record in a footer. Raises ValueError if distilray did not write the file."""
    metadata: Mapping[bytes, bytes] = file.metadata or {}
    if STATS_KEY not in metadata:
        raise ValueError(f"expected the key {STATS_KEY.decode()} in its footer, got {sorted(metadata)}")
    try:
        stats = Stats(**loads(metadata[STATS_KEY]))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{STATS_KEY.decode()} in its footer: {error}") from error
    unit = metadata.get(UNIT_KEY)
    dead = metadata.get(DEAD_KEY, repr(sorted(stats.dead.items())).encode())  # before version 0.4
    return UnitRecord(
        file.num_rows,
        stats,
        unit.decode() if unit is not None else None,
        dead.decode(),
        DEAD_LETTERS_KEY in metadata,
    )

"""The plan of a run: a corpus cut into units."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import pyarrow as pa

from distilray.operators.read import Read
from distilray.operators.rows.unit import Unit
from distilray.pipeline.corpus.listing import Shard
from distilray.pipeline.corpus.survey import Corpus, partition_values
from distilray.pipeline.planning.forecast import Forecast

_UNIT_ROWS = 2**16  # the most rows of a unit: with dictionaries, a footer may report few bytes for gigabytes of text


@dataclass(frozen=True)
class Plan:
    """The units of a corpus, and how to read and pack them.

    read: the operator that reads the rows of a unit. units: the units, in the order of the corpus. shards: the number
    of shards. bytes: the size of all shards. text_bytes: the uncompressed bytes of text in all shards. tokens_per_pack:
    the token budget; None: the default of the device. All runs use the same budget, because another budget may change
    the last digit of scores. forecast: the forecast of the whole plan. empty: the URI and version of each shard without
    rows. Such a shard has no unit.
    """

    read: Read
    units: tuple[Unit, ...]
    shards: int
    bytes: int
    text_bytes: int
    tokens_per_pack: int | None = None
    forecast: Forecast | None = None
    empty: tuple[tuple[str, str], ...] = ()

    @property
    def rows(self) -> int:
        """The number of rows to answer. Rows of unreadable shards are not included, because their number is unknown."""
        return sum(unit.rows for unit in self.units if unit.error is None)

    @property
    def dead_shards(self) -> int:
        """The number of unreadable shards. Each has one unit, and one dead letter."""
        return sum(unit.error is not None for unit in self.units)


def cut(corpus: Corpus, unit_bytes: int) -> Plan:
    """Cut a corpus into units of about `unit_bytes` of text, and of at most 65,536 rows."""
    unnamed = (unit for shard in corpus.shards for unit in _units(shard, corpus.read.partitions, unit_bytes))
    units = tuple(_named(unit, number) for number, unit in enumerate(unnamed))
    text_bytes = sum(size for shard in corpus.shards for _, size in shard.groups)
    with_units = {unit.uri for unit in units}
    empty = tuple((shard.uri, shard.version) for shard in corpus.shards if shard.uri not in with_units)
    size = sum(shard.size for shard in corpus.shards)
    return Plan(corpus.read, units, len(corpus.shards), size, text_bytes, empty=empty)


def _units(shard: Shard, partitions: pa.Schema, unit_bytes: int) -> Iterator[Unit]:
    values = partition_values(shard.uri)
    unit = Unit("", shard.uri, shard.version, (0, 0), 0, 0, 0, tuple(values.get(name) for name in partitions.names))
    if shard.error:
        yield replace(unit, rows=1, error=shard.error)
        return
    rows_before = 0
    for first, last, rows, size in _group_ranges(shard.groups, unit_bytes):
        pieces = min(rows, max(1, round(size / unit_bytes), -(-rows // _UNIT_ROWS))) if last - first == 1 else 1
        for start, stop in pairwise(rows * piece // pieces for piece in range(pieces + 1)):
            yield replace(unit, row_groups=(first, last), skip=start, first_row=rows_before + start, rows=stop - start)
        rows_before += rows


def _group_ranges(groups: Sequence[tuple[int, int]], unit_bytes: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield ranges of row groups as (first group, last group + 1, rows, bytes).

    A range fits a unit, or is a single group that does not fit. The first group of a range has rows.
    """
    first, rows, size = 0, 0, 0
    for i, (group_rows, group_bytes) in enumerate(groups):
        if rows and (size + group_bytes > unit_bytes or rows + group_rows > _UNIT_ROWS):
            yield first, i, rows, size
            rows = 0
        if not rows:  # no range starts with a group without rows, which some writers write for an empty batch
            first, size = i, 0
        rows += group_rows
        size += group_bytes
    if rows:
        yield first, len(groups), rows, size


def _named(unit: Unit, number: int) -> Unit:
    """Name a unit. Names sort in the order of the corpus, and differ if the shard or the rows of the unit differ."""
    identity = json.dumps([unit.uri, unit.version, unit.first_row, unit.rows])
    return replace(unit, name=f"{number:06d}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}")

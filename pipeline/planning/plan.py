"""The plan: a corpus cut into units."""

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

_UNIT_ROWS = 2**16  # however little text they hold on paper: a dictionary can hide gigabytes


@dataclass(frozen=True)
class Plan:
    """What a run has to do. read: how rows are read; units: in the order of the corpus; tokens_per_pack: the budget that
    every run packs with, for scores may differ in the last digit with it, None: the device's default; forecast: of it all;
    empty: URI and version of each shard without rows, which no unit names.
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
        """Rows to answer, those of unreadable shards not counted: nobody knows how many they are."""
        return sum(unit.rows for unit in self.units if unit.error is None)

    @property
    def dead_shards(self) -> int:
        return sum(unit.error is not None for unit in self.units)


def cut(corpus: Corpus, unit_bytes: int) -> Plan:
    """Units of about `unit_bytes` of text, and of at most 65,536 rows."""
    pieces = (unit for shard in corpus.shards for unit in _units(shard, corpus.read.partitions, unit_bytes))
    units = tuple(_named(unit, number) for number, unit in enumerate(pieces))
    text_bytes = sum(size for shard in corpus.shards for _, size in shard.groups)
    used = {unit.uri for unit in units}
    empty = tuple((shard.uri, shard.version) for shard in corpus.shards if shard.uri not in used)
    size = sum(shard.size for shard in corpus.shards)
    return Plan(corpus.read, units, len(corpus.shards), size, text_bytes, empty=empty)


def _units(shard: Shard, partitions: pa.Schema, unit_bytes: int) -> Iterator[Unit]:
    values = partition_values(shard.uri)
    unit = Unit("", shard.uri, shard.version, (0, 0), 0, 0, 0, tuple(values.get(name) for name in partitions.names))
    if shard.error:
        yield replace(unit, rows=1, error=shard.error)
        return
    before = 0
    for first, last, rows, size in _runs(shard.groups, unit_bytes):
        pieces = min(rows, max(1, round(size / unit_bytes), -(-rows // _UNIT_ROWS))) if last - first == 1 else 1
        for start, stop in pairwise(rows * piece // pieces for piece in range(pieces + 1)):
            yield replace(unit, row_groups=(first, last), skip=start, first_row=before + start, rows=stop - start)
        before += rows


def _runs(groups: Sequence[tuple[int, int]], unit_bytes: int) -> Iterator[tuple[int, int, int, int]]:
    """First, last + 1, rows and bytes of runs of row groups: each fits a unit, or is one group that does not.

    The first group of a run has rows.
    """
    first, rows, size = 0, 0, 0
    for i, (group_rows, group_bytes) in enumerate(groups):
        if rows and (size + group_bytes > unit_bytes or rows + group_rows > _UNIT_ROWS):
            yield first, i, rows, size
            rows = 0
        if not rows:  # a group without rows begins no run: writers put one for an empty batch
            first, size = i, 0
        rows += group_rows
        size += group_bytes
    if rows:
        yield first, len(groups), rows, size


def _named(unit: Unit, number: int) -> Unit:
    """The object name: sorted like the corpus, and another if the shard or the cut is another."""
    identity = json.dumps([unit.uri, unit.version, unit.first_row, unit.rows])
    return replace(unit, name=f"{number:06d}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}")

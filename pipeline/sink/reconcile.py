"""The comparison of an output's objects with the plan, by the footers of the objects.

The footer of a data object holds the stats of the unit, and a copy of the object of its dead letters. From these
copies, dead/ can be made to agree with data/.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from distilray.operators.merge_retried import write_dead_letters
from distilray.operators.objects.object_store import remove_object
from distilray.operators.objects.stats import Stats
from distilray.operators.objects.unit_object import UnitRecord, read_record
from distilray.operators.rows.unit import Unit
from distilray.pipeline.corpus.footers import read_footers
from distilray.pipeline.errors import IncompleteError

READ_ERRORS = (pa.ArrowException, OSError, ValueError)  # raised for a file that is not a valid object of an output
RECOMPUTE_ADVICE = "Remove these objects of data/ and run the job again, which recomputes their units"

_UNITS_SHOWN = 5


@dataclass
class UnitCounts:
    """The counts of committed units.

    stats: the sum over the units that are as planned. problems: the problem of each other unit, by unit. dead: the
    records that `reconcile_dead_letters` compares with dead/, by unit. It has a record of each unit that has dead
    letters, and of each unit whose last dead letters a retry answered.
    """

    stats: Stats = field(default_factory=Stats)
    problems: dict[str, str] = field(default_factory=dict)
    dead: dict[str, UnitRecord] = field(default_factory=dict)

    def or_raise(self, uri: str, advice: str = RECOMPUTE_ADVICE) -> Self:
        """Return itself. Raises IncompleteError, with the `advice`, if any unit has a problem."""
        if not self.problems:
            return self
        shown = sorted(self.problems)[:_UNITS_SHOWN]
        problems = "; ".join(f"data/{name}.parquet {self.problems[name]}" for name in shown)
        more = f"; and {len(self.problems) - len(shown)} more" if len(self.problems) > len(shown) else ""
        raise IncompleteError(
            f"{len(self.problems)} units in {uri} are not as they were committed: {problems}{more}. {advice}"
        )


def count_units(fs: Any, root: str, units: Sequence[Unit], sizes: Mapping[str, int]) -> UnitCounts:
    """Read the footer of each unit's data object and sum up the stats.

    sizes: the sizes of the data objects in bytes, by unit. Raises StoreError if the store fails.
    """
    counts = UnitCounts()
    files = [(f"{root}/data/{unit.name}.parquet", sizes[unit.name]) for unit in units]
    for unit, footer in zip(units, read_footers(fs, files), strict=True):
        try:
            record = _record(footer)
        except READ_ERRORS as error:
            counts.problems[unit.name] = f"is not a valid data object: {error}"
            continue
        if problem := _problem(unit, record):
            counts.problems[unit.name] = problem
            continue
        counts.stats += record.stats
        if record.stats.dead or record.letters:
            counts.dead[unit.name] = record
    return counts


def _record(footer: pq.FileMetaData | Exception) -> UnitRecord:
    if isinstance(footer, Exception):
        raise footer
    return read_record(footer)


def _problem(unit: Unit, record: UnitRecord) -> str | None:
    """Return how a data object differs from what was planned and committed, or None."""
    stats = record.stats
    if record.unit not in (unit.name, None):
        return f"is the object of unit {record.unit}"
    if record.rows != stats.rows:
        return f"holds {record.rows} rows; {stats.rows} were committed"
    if stats.rows + stats.dead_letters != unit.rows:
        return f"has {stats.rows} rows and {stats.dead_letters} dead letters; {unit.rows} rows were planned"
    return None


@dataclass(frozen=True)
class DeadLetterCheck:
    """The differences between dead/ and the committed units.

    orphans: objects of dead/ that agree with no committed unit. missing: committed units that have dead letters, but no
    object in dead/ that agrees with them.
    """

    orphans: frozenset[str]
    missing: frozenset[str]


def check_dead_letters(
    fs: Any, root: str, sizes: Mapping[str, int], records: Mapping[str, UnitRecord]
) -> DeadLetterCheck:
    """Read the footer of each object in dead/ and compare it with the committed units.

    sizes: the sizes of the objects in dead/ in bytes, by unit. records: `UnitCounts.dead`. Raises StoreError if the
    store fails.
    """
    names = [name for name in sizes if name in records and records[name].stats.dead]
    footers = read_footers(fs, [(f"{root}/dead/{name}.parquet", sizes[name]) for name in names])
    matching = {name for name, footer in zip(names, footers, strict=True) if _matches(footer, records[name])}
    expected = {name for name, record in records.items() if record.stats.dead}
    return DeadLetterCheck(frozenset(sizes.keys() - matching), frozenset(expected - matching))


def _matches(footer: pq.FileMetaData | Exception, committed: UnitRecord) -> bool:
    try:
        record = _record(footer)
    except READ_ERRORS:
        return False
    same_rows = record.unit == committed.unit and record.dead == committed.dead
    return same_rows and record.rows == committed.stats.dead_letters


def missing_dead_letters(record: UnitRecord) -> str:
    """Return the problem of a unit whose dead letters are missing."""
    return f"records {record.stats.dead_letters} dead letters; they are not in dead/"


def reconcile_dead_letters(fs: Any, root: str, counts: UnitCounts, sizes: Mapping[str, int]) -> UnitCounts:
    """Make dead/ agree with the committed units, and return the counts.

    Orphans come from attempts that were never committed. They are removed. Objects are missing if a retry stopped
    between its two writes. They are written from the copies in the data objects. A unit whose dead letters are missing
    and have no copy becomes a problem. sizes: the sizes of the objects in dead/ in bytes, by unit.
    """
    check = check_dead_letters(fs, root, sizes, counts.dead)
    orphans = set(check.orphans)
    for name in check.missing:
        record = counts.dead[name]
        if record.letters:
            write_dead_letters(fs, root, name)
            orphans.discard(name)
        else:
            counts.problems[name] = missing_dead_letters(record)
    for name in sorted(orphans):
        remove_object(fs, f"{root}/dead/{name}.parquet")
    return counts

"""The count check: what lies in the store, by the footers of its objects, against the plan."""

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

READ_ERRORS = (pa.ArrowException, OSError, ValueError)  # what a file raises that is not what it should be
RECOMPUTE_ADVICE = "Remove these objects of data/ and run the job again: it computes their units anew"

_UNITS_SHOWN = 5


@dataclass
class UnitCounts:
    """Of committed units. stats: the sum of those that are as planned; problems: of the others, by unit; dead: the records of
    units that have dead letters, or say that none are left."""

    stats: Stats = field(default_factory=Stats)
    problems: dict[str, str] = field(default_factory=dict)
    dead: dict[str, UnitRecord] = field(default_factory=dict)

    def or_raise(self, uri: str, advice: str = RECOMPUTE_ADVICE) -> Self:
        """Itself. Raises IncompleteError if any unit has a problem; advice: what to do then."""
        if not self.problems:
            return self
        some = sorted(self.problems)[:_UNITS_SHOWN]
        said = "; ".join(f"data/{name}.parquet {self.problems[name]}" for name in some)
        more = f"; and {len(self.problems) - len(some)} more" if len(self.problems) > len(some) else ""
        raise IncompleteError(
            f"{len(self.problems)} units in {uri} are not as they were committed: {said}{more}. {advice}"
        )


def count_units(fs: Any, root: str, units: Sequence[Unit], sizes: Mapping[str, int]) -> UnitCounts:
    """Reads one footer a unit; sizes: of their data objects in bytes, by unit. Raises StoreError."""
    found = UnitCounts()
    files = [(f"{root}/data/{unit.name}.parquet", sizes[unit.name]) for unit in units]
    for unit, file in zip(units, read_footers(fs, files), strict=True):
        try:
            record = _record(file)
        except READ_ERRORS as error:
            found.problems[unit.name] = f"is no data object: {error}"
            continue
        if problem := _problem(unit, record):
            found.problems[unit.name] = problem
            continue
        found.stats += record.stats
        if record.stats.dead or record.letters:
            found.dead[unit.name] = record
    return found


def _record(file: pq.FileMetaData | Exception) -> UnitRecord:
    if isinstance(file, Exception):
        raise file
    return read_record(file)


def _problem(unit: Unit, record: UnitRecord) -> str | None:
    """How a data object differs from what was planned and committed."""
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
    """What is wrong with dead/. orphans: objects that no commit stands behind; lacking: units whose commit says that there
    are dead letters, and they are not there."""

    orphans: frozenset[str]
    missing: frozenset[str]


def check_dead_letters(
    fs: Any, root: str, sizes: Mapping[str, int], truth: Mapping[str, UnitRecord]
) -> DeadLetterCheck:
    """Reads one footer a dead object; sizes: of the dead objects there are, by unit; truth: `Count.dead`. Raises StoreError."""
    listed = [name for name in sizes if name in truth and truth[name].stats.dead]
    footers = read_footers(fs, [(f"{root}/dead/{name}.parquet", sizes[name]) for name in listed])
    agree = {name for name, file in zip(listed, footers, strict=True) if _agrees(file, truth[name])}
    has = {name for name, record in truth.items() if record.stats.dead}
    return DeadLetterCheck(frozenset(sizes.keys() - agree), frozenset(has - agree))


def _agrees(file: pq.FileMetaData | Exception, truth: UnitRecord) -> bool:
    try:
        record = _record(file)
    except READ_ERRORS:
        return False
    whose = record.unit == truth.unit and record.dead == truth.dead
    return whose and record.rows == truth.stats.dead_letters


def missing_dead_letters(record: UnitRecord) -> str:
    """The problem of a unit whose dead letters are gone."""
    return f"says that there are {record.stats.dead_letters} dead letters; they are not in dead/"


def reconcile_dead_letters(fs: Any, root: str, found: UnitCounts, sizes: Mapping[str, int]) -> UnitCounts:
    """Makes dead/ agree with what was committed; a unit whose dead letters are gone is a problem.

    Orphans of dead attempts are removed, and what a retry died before it could put is put. sizes: of the dead objects.
    """
    letters = check_dead_letters(fs, root, sizes, found.dead)
    orphans = set(letters.orphans)
    for name in letters.missing:
        record = found.dead[name]
        if record.letters:
            write_dead_letters(fs, root, name)
            orphans.discard(name)
        else:
            found.problems[name] = missing_dead_letters(record)
    for name in sorted(orphans):
        remove_object(fs, f"{root}/dead/{name}.parquet")
    return found

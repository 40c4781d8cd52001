"""The command `distilray verify`: a check of an output against its plan.

The check needs only the output. It reads every object, and compares the address of every row with the plan.
"""

import io
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from distilray.model.errors import StoreError
from distilray.operators.objects.stats import Stats
from distilray.operators.rows.unit import Unit, version
from distilray.pipeline.job.job import parse_sink
from distilray.pipeline.job.overrides import override_keys
from distilray.pipeline.sink.integrity import RECOMPUTE_UNIT_ADVICE, UnitCheck, check_unit
from distilray.pipeline.sink.output import MANIFEST, PLAN, SUCCESS, Output, open_output
from distilray.pipeline.sink.plan_file import StoredPlan
from distilray.pipeline.sink.reconcile import (
    READ_ERRORS,
    DeadLetterCheck,
    UnitCounts,
    check_dead_letters,
    count_units,
    missing_dead_letters,
)

SHOWN = 20  # problems; more are only counted
_READERS = {"local": 2, "remote": 8}  # units read at one time: each needs the memory for its objects and a row group
_BATCH_UNITS = 64  # the results of so many units may wait for those of an earlier unit
_CHANGED = "the output changed while it was read: a run or a retry is writing to it; verify again after it has ended"
_FILES = re.compile(rf"(data|dead)/[^/.][^/]*\.parquet|{PLAN}|{MANIFEST}|{SUCCESS}|_runs/[^/.][^/]*")  # of an output


@dataclass
class Verdict:
    """The result of a verification.

    planned: the rows of the plan. rows, dead_letters, bytes: what the objects contain. checksums: whether the pages of
    all columns were read, and not only those of the addresses. problems: the first 20 problems, each with what to do.
    more: the number of the other problems.
    """

    units: int = 0
    planned: int = 0
    rows: int = 0
    dead_letters: int = 0
    bytes: int = 0
    checksums: bool = True
    problems: list[str] = field(default_factory=list)
    more: int = 0

    @property
    def ok(self) -> bool:
        """Whether there are no problems."""
        return not self.problems

    def add(self, problem: str) -> None:
        """Add a problem. After the first 20, only count it."""
        if len(self.problems) < SHOWN:
            self.problems.append(problem)
        else:
            self.more += 1

    def description(self) -> dict[str, Any]:
        """Return the verdict as plain data."""
        return {"ok": self.ok, **asdict(self)}


def verify(uri: str, overrides: Sequence[str] = (), *, checksums: bool = True) -> Verdict:
    """Check the output at `uri` against its plan.

    overrides: storage options, such as sink.storage_options.key=... checksums: whether to decode all columns, which
    checks the checksums of all pages. Otherwise only the columns of the addresses are decoded. Raises JobError if the
    sink cannot be reached or holds no plan, and StoreError if the store fails.
    """
    override_keys({"sink": {}}, overrides, r"sink\.storage_options\b", "keys of sink.storage_options")
    output = open_output(parse_sink(uri, overrides))
    before, verdict = _snapshot(output), Verdict(checksums=checksums)
    try:
        _check(output, verdict)
    except (StoreError, FileNotFoundError):
        if _snapshot(output) == before:
            raise
        verdict.add(_CHANGED)
    if verdict.problems and _snapshot(output) != before:  # the advice may be wrong, such as to remove a new object
        verdict.problems, verdict.more = [_CHANGED], 0
    return verdict


def _snapshot(output: Output) -> dict[str, tuple[str, float | None]]:
    """Return the version of each object. Two snapshots differ if an object was written or removed between them."""
    output.fs.invalidate_cache()
    infos = output.fs.find(output.root, detail=True)
    return {path: (version(info), info.get("mtime")) for path, info in infos.items()}


def _check(output: Output, verdict: Verdict) -> None:
    """Check an output, and add the rows and the problems to the verdict."""
    stored = output.require_stored_plan()
    verdict.units, verdict.planned = len(stored.units), sum(unit.rows for unit in stored.units)
    data, dead = output.object_sizes("data"), output.object_sizes("dead")
    for problem in _object_problems(output, stored, data, dead):
        verdict.add(problem)
    present = [unit for unit in stored.units if unit.name in data]
    counts = count_units(output.fs, output.root, present, data)
    sizes = {unit.name: dead[unit.name] for unit in present if unit.name in dead and unit.name not in counts.problems}
    dead_check = check_dead_letters(output.fs, output.root, sizes, counts.dead)
    stats = counts.stats if counts.stats.units == len(stored.units) else None
    for problem in (*_count_problems(counts, dead_check), *_manifest_problems(output, stats)):
        verdict.add(problem)
    wrong = {*counts.problems, *dead_check.missing}  # will be recomputed, so there is no need to read them
    readable = [unit for unit in present if unit.name not in wrong]
    for unit_check in _check_units(output, stored, readable, dead.keys() - dead_check.orphans, verdict.checksums):
        verdict.rows += unit_check.rows
        verdict.dead_letters += unit_check.dead_letters
        verdict.bytes += unit_check.bytes
        for problem in unit_check.problems:
            verdict.add(problem)


def _object_problems(
    output: Output, stored: StoredPlan, data: Mapping[str, int], dead: Mapping[str, int]
) -> Iterator[str]:
    """Yield a problem for each unit without an object, and for each object that does not belong to the output."""
    units = {unit.name for unit in stored.units}
    for name in (unit.name for unit in stored.units if unit.name not in data):
        but_dead = ", though it has dead letters" if name in dead else ""
        yield f"data/{name}.parquet is missing{but_dead}: run the job again"
    for folder, names in (("data", data), ("dead", dead)):
        for name in sorted(names.keys() - units):
            yield f"{folder}/{name}.parquet belongs to no unit of the plan: remove it"
    root = output.root.rstrip("/") + "/"
    for path in sorted(output.fs.find(output.root)):
        name = path.removeprefix(root)
        # the console of S3 creates an object for each folder; the name of this object ends in a slash
        if name and not name.endswith("/") and not _FILES.fullmatch(name):
            is_draft = name.rsplit("/", 1)[-1].startswith(".")
            kind = "a draft of an unfinished object write" if is_draft else "not a file of an output"
            yield f"{name} is {kind}: remove it after all runs on this sink have ended"


def _count_problems(counts: UnitCounts, dead_check: DeadLetterCheck) -> Iterator[str]:
    """Yield the problems that the footers of objects show."""
    for name, problem in sorted(counts.problems.items()):
        yield f"data/{name}.parquet {problem}: {RECOMPUTE_UNIT_ADVICE.format(name)}"
    for name in sorted(dead_check.missing):
        record = counts.dead[name]
        advice = (
            "run distilray retry, which restores them from the copy in the footer"
            if record.letters
            else RECOMPUTE_UNIT_ADVICE.format(name)
        )
        yield f"data/{name}.parquet {missing_dead_letters(record)}: {advice}"
    for name in sorted(dead_check.orphans - dead_check.missing):
        yield f"dead/{name}.parquet is an orphan: its unit was committed without it; remove it"


def _manifest_problems(output: Output, stats: Stats | None) -> Iterator[str]:
    """Yield the problems of _SUCCESS and the manifest.

    stats: the sum over all units; None if units are missing or wrong.
    """
    advice = f"remove {SUCCESS} and run the job again"
    if not output.fs.exists(f"{output.root}/{SUCCESS}"):
        yield f"{SUCCESS} is missing: the run has not finished, or has failed; run the job again"
        return
    if stats is None:
        yield f"{SUCCESS} exists, though units are missing or wrong: {advice}"
        return
    try:
        manifest = json.loads(output.fs.cat_file(f"{output.root}/{MANIFEST}"))
        sums = {**json.loads(json.dumps(asdict(stats))), "padding": stats.padding}
        parity = sums.pop("parity")
        different = [name for name, value in sums.items() if manifest[name] != value]
        if parity != manifest.get("parity", {}).get("tasks", {}):
            different.append("parity")
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError) as error:
        yield f"{MANIFEST} is missing or malformed ({type(error).__name__}: {error}): {advice}"
        return
    if different:
        yield f"{MANIFEST} has other sums than the objects: {', '.join(different)}; {advice}"


def _check_units(
    output: Output, stored: StoredPlan, units: Sequence[Unit], dead: Collection[str], checksums: bool
) -> Iterator[UnitCheck]:
    """Read the objects of each unit. Yields the checks in the order of the units, and reads several units at one time.

    dead: the names of the units with an object in dead/.
    """
    readers = _READERS["local" if isinstance(output.fs, LocalFileSystem) else "remote"]
    schema = stored.schema or (_read_schema(output, units[0]) if units else None)
    with ThreadPoolExecutor(readers) as pool:
        for i in range(0, len(units), _BATCH_UNITS):
            yield from pool.map(
                lambda unit: check_unit(output, unit, unit.name in dead, schema, checksums), units[i : i + _BATCH_UNITS]
            )


def _read_schema(output: Output, unit: Unit) -> pa.Schema | None:
    """Read the schema of a data object, for plans of versions before 0.4, which do not contain it.

    Returns None if the object cannot be read.
    """
    data = output.fs.cat_file(f"{output.root}/data/{unit.name}.parquet")
    try:
        return pq.read_schema(io.BytesIO(data)).remove_metadata()
    except READ_ERRORS:
        return None

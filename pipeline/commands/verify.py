"""Whether an output is what its plan says, from the output alone: every object read, every row's address checked."""

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

SHOWN = 20
_AT_ONCE = {"local": 2, "remote": 8}  # units: each held whole, with the one decoded row group of it
_AHEAD = 64  # units whose findings may wait for those of an earlier one
_MOVED = "the output changed while it was read: a run or a retry is at work; verify again when it has ended"
_OURS = re.compile(rf"(data|dead)/[^/.][^/]*\.parquet|{PLAN}|{MANIFEST}|{SUCCESS}|_runs/[^/.][^/]*")


@dataclass
class Verdict:
    """What was found. problems: the first 20, each with what to do; more: how many others there are; checksums: whether the
    pages of all columns were read, and not only those of the addresses."""

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
        return not self.problems

    def add(self, problem: str) -> None:
        """Kept, or counted."""
        if len(self.problems) < SHOWN:
            self.problems.append(problem)
        else:
            self.more += 1

    def description(self) -> dict[str, Any]:
        """As plain data."""
        return {"ok": self.ok, **asdict(self)}


def verify(uri: str, overrides: Sequence[str] = (), *, checksums: bool = True) -> Verdict:
    """Checks the output at `uri` against the plan in it.

    overrides: such as sink.storage_options.key=...; checksums: decode every column, and so check every page's sum; else only the columns of addresses. Raises JobError if the
    sink cannot be reached or holds no plan, StoreError if the store fails.
    """
    override_keys({"sink": {}}, overrides, r"sink\.storage_options\b", "keys of sink.storage_options")
    output = open_output(parse_sink(uri, overrides))
    before, verdict = _state(output), Verdict(checksums=checksums)
    try:
        _check(output, verdict)
    except (StoreError, FileNotFoundError):
        if _state(output) == before:
            raise
        verdict.add(_MOVED)
    if verdict.problems and _state(output) != before:  # what to do about them may be wrong, such as to remove an object
        verdict.problems, verdict.more = [_MOVED], 0
    return verdict


def _state(output: Output) -> dict[str, tuple[str, float | None]]:
    """What tells whether any object was put or removed meanwhile."""
    output.fs.invalidate_cache()
    found = output.fs.find(output.root, detail=True)
    return {path: (version(info), info.get("mtime")) for path, info in found.items()}


def _check(output: Output, verdict: Verdict) -> None:
    stored = output.require_plan()
    verdict.units, verdict.planned = len(stored.units), sum(unit.rows for unit in stored.units)
    data, dead = output.object_sizes("data"), output.object_sizes("dead")
    for problem in _objects(output, stored, data, dead):
        verdict.add(problem)
    present = [unit for unit in stored.units if unit.name in data]
    counted = count_units(output.fs, output.root, present, data)
    listed = {unit.name: dead[unit.name] for unit in present if unit.name in dead and unit.name not in counted.problems}
    letters = check_dead_letters(output.fs, output.root, listed, counted.dead)
    whole = counted.stats if counted.stats.units == len(stored.units) else None
    for problem in (*_counts(counted, letters), *_manifest(output, whole)):
        verdict.add(problem)
    wrong = {*counted.problems, *letters.missing}  # nobody reads what must be computed again
    counting = [unit for unit in present if unit.name not in wrong]
    for found in _contents(output, stored, counting, dead.keys() - letters.orphans, verdict.checksums):
        verdict.rows += found.rows
        verdict.dead_letters += found.dead_letters
        verdict.bytes += found.bytes
        for problem in found.problems:
            verdict.add(problem)


def _objects(output: Output, stored: StoredPlan, data: Mapping[str, int], dead: Mapping[str, int]) -> Iterator[str]:
    """Units that are missing, and objects that are nobody's."""
    units = {unit.name for unit in stored.units}
    for name in (unit.name for unit in stored.units if unit.name not in data):
        left = ", though it has dead letters" if name in dead else ""
        yield f"data/{name}.parquet is missing{left}: run the job again"
    for folder, names in (("data", data), ("dead", dead)):
        for name in sorted(names.keys() - units):
            yield f"{folder}/{name}.parquet is of no unit of the plan: remove it"
    root = output.root.rstrip("/") + "/"
    for path in sorted(output.fs.find(output.root)):
        name = path.removeprefix(root)
        if name and not name.endswith("/") and not _OURS.fullmatch(name):  # S3's console makes objects for folders
            draft = "a draft that was never finished" if name.rsplit("/", 1)[-1].startswith(".") else "no file of a run"
            yield f"{name} is {draft}: remove it, once no run is at work there"


def _counts(counted: UnitCounts, letters: DeadLetterCheck) -> Iterator[str]:
    """What the count check says, of which `run` and `retry` put right what they can."""
    for name, problem in sorted(counted.problems.items()):
        yield f"data/{name}.parquet {problem}: {RECOMPUTE_UNIT_ADVICE.format(name)}"
    for name in sorted(letters.missing):
        record = counted.dead[name]
        how = (
            "run distilray retry: they are in its footer, and are put again"
            if record.letters
            else RECOMPUTE_UNIT_ADVICE.format(name)
        )
        yield f"data/{name}.parquet {missing_dead_letters(record)}: {how}"
    for name in sorted(letters.orphans - letters.missing):
        yield f"dead/{name}.parquet is an orphan: its unit was committed without it; remove it"


def _manifest(output: Output, stats: Stats | None) -> Iterator[str]:
    """Whether success is said, and of these sums; None: units are missing, or wrong."""
    again = f"remove {SUCCESS} and run the job again"
    if not output.fs.exists(f"{output.root}/{SUCCESS}"):
        yield f"{SUCCESS} is missing: the run has not ended, or not well; run the job again"
        return
    if stats is None:
        yield f"{SUCCESS} is there, though units are missing or wrong: {again}"
        return
    try:
        said = json.loads(output.fs.cat_file(f"{output.root}/{MANIFEST}"))
        sums = {**json.loads(json.dumps(asdict(stats))), "padding": stats.padding}
        parity = sums.pop("parity")
        differ = [name for name, value in sums.items() if said[name] != value]
        if parity != said.get("parity", {}).get("tasks", {}):
            differ.append("parity")
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError) as error:
        yield f"{MANIFEST} is missing or not as a run writes it ({type(error).__name__}: {error}): {again}"
        return
    if differ:
        yield f"{MANIFEST} says other sums than the objects: {', '.join(differ)}; {again}"


def _contents(
    output: Output, stored: StoredPlan, units: Sequence[Unit], dead: Collection[str], checksums: bool
) -> Iterator[UnitCheck]:
    """What is in each unit's objects, in order, several read at once."""
    at_once = _AT_ONCE["local" if isinstance(output.fs, LocalFileSystem) else "remote"]
    schema = stored.schema or (_read_schema(output, units[0]) if units else None)
    with ThreadPoolExecutor(at_once) as pool:
        for i in range(0, len(units), _AHEAD):
            yield from pool.map(
                lambda unit: check_unit(output, unit, unit.name in dead, schema, checksums), units[i : i + _AHEAD]
            )


def _read_schema(output: Output, unit: Unit) -> pa.Schema | None:
    """Of the first object, before version 0.4 put it into the plan; None if it has none."""
    data = output.fs.cat_file(f"{output.root}/data/{unit.name}.parquet")
    try:
        return pq.read_schema(io.BytesIO(data)).remove_metadata()
    except READ_ERRORS:
        return None

"""The output folder: the plan put first, one object a unit, the manifest and _SUCCESS last.

A unit is done when its object lies in data/; nothing else is remembered, so a resume lists data/ and does the rest.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem

from distilray.model.errors import StoreError
from distilray.model.storage.store import explain, open_store
from distilray.operators.objects.object_store import remove_object, write_if_absent, write_object
from distilray.operators.objects.stats import Stats
from distilray.operators.rows.unit import Unit
from distilray.operators.tasks.options import Limit
from distilray.pipeline.errors import IncompleteError, JobError, ParityError
from distilray.pipeline.job.job import Job, Parity, Sink
from distilray.pipeline.planning.plan import Plan
from distilray.pipeline.sink.max_dead import check_max_dead
from distilray.pipeline.sink.parity_check import parity_problem, parity_summary
from distilray.pipeline.sink.plan_file import (
    MANIFEST_ADVICE,
    StoredPlan,
    as_job_error,
    check_same_job,
    encode_plan,
    read_plan,
    to_plan,
)
from distilray.pipeline.sink.reconcile import RECOMPUTE_ADVICE, UnitCounts, count_units, reconcile_dead_letters

PLAN, MANIFEST, SUCCESS = "_plan.parquet", "_manifest.json", "_SUCCESS"
_SUMS = {**asdict(Stats()), "padding": 0, "shards": 0, "passes": [], "versions": {}}  # of every manifest


@dataclass(frozen=True)
class Output:
    """A sink, opened."""

    fs: Any
    root: str
    uri: str

    def find_plan(self) -> StoredPlan | None:
        """The plan that an earlier run put; None in a new folder. Raises JobError if something else has written here."""
        path = f"{self.root}/{PLAN}"
        if not self.fs.exists(path):
            if self.committed():
                raise JobError(
                    f"{self.uri} has data/ but no {PLAN}: it is not an output of distilray, or has lost its plan; put a copy "
                    "of that back, or choose another sink"
                )
            return None
        return read_plan(self.fs.cat_file(path), f"{self.uri}/{PLAN}")

    def require_plan(self) -> StoredPlan:
        """The plan of an output. Raises JobError if there is none."""
        if (stored := self.find_plan()) is None:
            raise JobError(f"{self.uri} is no output of distilray: there is no {PLAN} in it")
        return stored

    def job_description(self, stored: StoredPlan) -> dict[str, Any]:
        """The job of an output as plain data, without secrets: of the run that finished it, whose limits it has kept, else of
        the first. Raises JobError if it says nothing of it."""
        said: dict[str, Any] | None = self.last_manifest().get("job") or stored.about.get("job")
        if said is None:
            raise JobError(f"{self.uri} does not say what its job was: finish it with distilray run first")
        return said

    def load_plan(self, job: Job, fingerprint: str) -> Plan | None:
        """The plan of an earlier run of the same job; None in a new folder.

        Raises JobError if another job, or something else, has written here.
        """
        stored = self.find_plan()
        if stored is None:
            return None
        check_same_job(stored, job, fingerprint, self.uri)
        return to_plan(stored, job, f"{self.uri}/{PLAN}")

    def save_plan(self, plan: Plan, fingerprint: str, job: Job, schema: pa.Schema) -> bool:
        """Put by the first run, so that every other has the same units; False if another run was first.

        schema: of the data objects.

        Raises JobError if the sink cannot be written.
        """
        data = encode_plan(plan, fingerprint, job, schema)
        try:
            return write_if_absent(self.fs, f"{self.root}/{PLAN}", data)
        except StoreError as error:
            raise StoreError(f"cannot write to sink {self.uri}: {error}") from error
        except Exception as error:  # every store has its own exceptions; all of them mean "cannot be written"
            raise JobError(f"cannot write to sink {self.uri}: {explain(error)}") from error

    def committed(self) -> dict[str, int]:
        """The units whose object is there, and its size in bytes."""
        return self.object_sizes("data")

    def object_sizes(self, folder: str) -> dict[str, int]:
        """The Parquet objects of a folder by name, and their sizes in bytes."""
        return {name: info["size"] for name, info in self.list_objects(folder).items()}

    def list_objects(self, folder: str) -> dict[str, Mapping[str, Any]]:
        """The Parquet objects of a folder by name, and what the store says of them."""
        self.fs.invalidate_cache()
        try:
            infos = self.fs.ls(f"{self.root}/{folder}", detail=True)
        except FileNotFoundError:
            return {}
        named = {info["name"].rsplit("/", 1)[-1]: info for info in infos}
        return {
            name.removesuffix(".parquet"): info
            for name, info in named.items()
            if name.endswith(".parquet") and not name.startswith(".")
        }

    def count_units(self, units: Sequence[Unit], sizes: Mapping[str, int], advice: str = RECOMPUTE_ADVICE) -> Stats:
        """What committed units say of themselves. Raises IncompleteError for one that is not as it was planned, StoreError.

        advice: what to do with such units.
        """
        return self._counted(units, sizes).or_raise(self.uri, advice).stats

    def _counted(self, units: Sequence[Unit], sizes: Mapping[str, int]) -> UnitCounts:
        """Units with a problem are listed and read once more: a retry may have put their objects after `sizes` were listed."""
        try:
            found = count_units(self.fs, self.root, units, sizes)
        except StoreError:  # what a shorter object gives, too
            now = self.committed()
            if all(now.get(unit.name) == sizes[unit.name] for unit in units):
                raise
            found = UnitCounts(problems={unit.name: "is gone" for unit in units})
        if not found.problems:
            return found
        now = self.committed()
        there = [unit for unit in units if unit.name in found.problems and unit.name in now]
        again = count_units(self.fs, self.root, there, now)
        gone = {name: problem for name, problem in found.problems.items() if name not in now}
        return UnitCounts(found.stats + again.stats, gone | again.problems, found.dead | again.dead)

    def reconcile_dead_letters(self, units: Sequence[Unit], sizes: Mapping[str, int]) -> UnitCounts:
        """The same of units that nobody works on, and dead/ is made to agree with it. Raises IncompleteError, StoreError."""
        names = {unit.name for unit in units}
        listed = {name: size for name, size in self.object_sizes("dead").items() if name in names}
        return reconcile_dead_letters(
            self.fs, self.root, self._counted(units, sizes).or_raise(self.uri), listed
        ).or_raise(self.uri)

    def manifest(self) -> dict[str, Any] | None:
        """What `finish` wrote; None while success is not said."""
        if not self.fs.exists(f"{self.root}/{SUCCESS}"):
            return None
        return self.last_manifest()

    def last_manifest(self) -> dict[str, Any]:
        """What `finish` wrote last, whether it still holds or not; {} if nothing. Raises JobError if it is broken."""
        try:
            data = self.fs.cat_file(f"{self.root}/{MANIFEST}")
        except FileNotFoundError:
            return {}
        with as_job_error(f"{self.uri}/{MANIFEST}", MANIFEST_ADVICE):
            manifest: dict[str, Any] = json.loads(data)
            if not isinstance(manifest, dict):
                raise TypeError(f"expected a JSON object, got {type(manifest).__name__}")
            manifest.setdefault("parity", {})  # before version 0.4 there was none
            if wrong := [name for name, sum_ in _SUMS.items() if not isinstance(manifest.get(name), type(sum_))]:
                raise ValueError(f"missing, or of another type: {', '.join(wrong)}")
        return manifest

    def finished(self, plan: Plan) -> dict[str, Any] | None:
        """The manifest if nothing is left to do."""
        manifest = self.manifest()
        done = self.committed() if manifest else {}
        return manifest if all(unit.name in done for unit in plan.units) else None

    def remove_success(self) -> None:
        """Success is said no more: units are missing, or are about to change."""
        remove_object(self.fs, f"{self.root}/{SUCCESS}")

    def finish(
        self,
        plan: Plan,
        about: Mapping[str, Any],
        owned: Callable[[], None],
        parity: Parity | None = None,
        max_dead: Limit | None = None,
    ) -> dict[str, Any]:
        """Counts what lies in the store, then puts manifest and _SUCCESS if planned = answered + dead, unit by unit.

        Else IncompleteError and neither; ParityError, and a manifest that says why, but no _SUCCESS, if the run is
        farther from its reference than `parity` allows; DeadLettersError if more rows are dead than `max_dead` allows.
        owned: raises if this run owns the sink no more, asked last of all.
        """
        committed, units = self.committed(), {unit.name for unit in plan.units}
        missing = units - committed.keys()
        for folder, names in (("data", committed.keys()), ("dead", self.object_sizes("dead").keys())):
            if foreign := names - units:
                raise IncompleteError(
                    f"{self.uri}/{folder} holds {len(foreign)} objects of no unit, such as {min(foreign)}; remove them"
                )
        if missing:
            raise IncompleteError(
                f"{plan.rows + plan.dead_shards} rows planned, but {len(missing)} of {len(plan.units)} units missing in "
                f"{self.uri}, such as {min(missing)}; run the job again"
            )
        stats = self.reconcile_dead_letters(plan.units, committed).stats
        check_max_dead(stats, plan.rows + plan.dead_shards, max_dead)
        counted = {**asdict(stats), "padding": stats.padding, "shards": plan.shards}
        manifest = {**about, **counted, "parity": parity_summary(stats, plan, parity)}
        write_object(self.fs, f"{self.root}/{MANIFEST}", json.dumps(manifest, indent=2).encode())
        if parity and (problem := parity_problem(stats, plan, parity)):
            raise ParityError(f"{problem}; {self.uri}/{MANIFEST} has the figures. There is no {SUCCESS}")
        owned()
        write_object(self.fs, f"{self.root}/{SUCCESS}", b"")
        return manifest


def open_output(sink: Sink) -> Output:
    """Raises JobError if the folder cannot be reached."""
    try:
        fs, root = open_store(sink.uri, sink.storage_options)
        fs.invalidate_cache()
        fs.exists(f"{root}/{PLAN}")
        if isinstance(fs, LocalFileSystem) and fs.isfile(root):
            raise NotADirectoryError("expected a folder, got a file")
        if "s3" in fs.protocol:
            _check_bucket(fs, root.split("/")[0])
    except StoreError as error:
        raise StoreError(f"cannot reach sink {sink.uri}: {error}") from error
    except Exception as error:  # every store has its own exceptions; all of them mean "unreachable"
        raise JobError(f"cannot reach sink {sink.uri}: {explain(error)}") from error
    return Output(fs, root, sink.uri)


def _check_bucket(fs: Any, bucket: str) -> None:
    """FileNotFoundError for a missing bucket, which some servers would make at the first put."""
    try:
        fs.call_s3("head_bucket", Bucket=bucket)
    except FileNotFoundError:
        raise FileNotFoundError(f"no such bucket: {bucket}") from None
    except PermissionError:
        return  # a role may well be allowed to write to a folder, and to ask nothing about its bucket

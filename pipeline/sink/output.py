"""The output folder: the plan is written first, then one data object per unit, and last the manifest and _SUCCESS.

A unit is committed when its object exists in data/. There is no other state: a resume lists data/ and computes the
other units.
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
_SUMS = {**asdict(Stats()), "padding": 0, "shards": 0, "passes": [], "versions": {}}  # in every manifest


@dataclass(frozen=True)
class Output:
    """An open sink. root: its path on the file system `fs`."""

    fs: Any
    root: str
    uri: str

    def find_stored_plan(self) -> StoredPlan | None:
        """Read the plan that an earlier run wrote, or return None for a new folder.

        Raises JobError if the folder has data objects but no plan, or if the plan is broken.
        """
        path = f"{self.root}/{PLAN}"
        if not self.fs.exists(path):
            if self.committed_sizes():
                raise JobError(
                    f"{self.uri} has data/ but no {PLAN}: it is not an output of distilray, or its plan is missing; "
                    "restore a copy of the plan, or choose another sink"
                )
            return None
        return read_plan(self.fs.cat_file(path), f"{self.uri}/{PLAN}")

    def require_stored_plan(self) -> StoredPlan:
        """Read the plan of an output. Raises JobError if there is none."""
        if (stored := self.find_stored_plan()) is None:
            raise JobError(
                f"{self.uri} is not an output of distilray: it has no {PLAN}; give the sink of a job that ran"
            )
        return stored

    def job_description(self, stored: StoredPlan) -> dict[str, Any]:
        """Return the job of an output as plain data, without secrets.

        The job of a finished output is the job of the run that finished it. Its `max_dead` and `parity` apply to the
        output. The job of an unfinished output is the job in the plan. Raises JobError if neither the manifest nor the
        plan has a job.
        """
        description: dict[str, Any] | None = self.last_manifest().get("job") or stored.about.get("job")
        if description is None:
            raise JobError(f"{self.uri} has no description of its job: finish the output with distilray run first")
        return description

    def load_plan(self, job: Job, fingerprint: str) -> Plan | None:
        """Read the plan of an earlier run of the same job, or return None for a new folder.

        Raises JobError if the folder holds the output of another job, or files that are not an output.
        """
        stored = self.find_stored_plan()
        if stored is None:
            return None
        check_same_job(stored, job, fingerprint, self.uri)
        return to_plan(stored, job, f"{self.uri}/{PLAN}")

    def save_plan(self, plan: Plan, fingerprint: str, job: Job, schema: pa.Schema) -> bool:
        """Write the plan. Return False if another run has already written one.

        The first run writes the plan, so that all runs have the same units. schema: the schema of the data objects.
        Raises JobError if the sink cannot be written, StoreError if the store fails.
        """
        data = encode_plan(plan, fingerprint, job, schema)
        try:
            return write_if_absent(self.fs, f"{self.root}/{PLAN}", data)
        except StoreError as error:
            raise StoreError(f"cannot write to sink {self.uri}: {error}") from error
        except Exception as error:  # stores raise exceptions of many types
            raise JobError(f"cannot write to sink {self.uri}: {explain(error)}") from error

    def committed_sizes(self) -> dict[str, int]:
        """List the committed units, with the size of each data object in bytes."""
        return self.object_sizes("data")

    def object_sizes(self, folder: str) -> dict[str, int]:
        """List the Parquet objects of a folder, with their sizes in bytes, by unit."""
        return {name: info["size"] for name, info in self.list_objects(folder).items()}

    def list_objects(self, folder: str) -> dict[str, Mapping[str, Any]]:
        """List the Parquet objects of a folder, with the metadata that the store returns, by unit."""
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
        """Sum up the stats of committed units.

        sizes: the sizes of their data objects in bytes. advice: what to do about a unit that is not as planned. Raises
        IncompleteError with this advice if there is such a unit, StoreError if the store fails.
        """
        return self._count_twice(units, sizes).or_raise(self.uri, advice).stats

    def _count_twice(self, units: Sequence[Unit], sizes: Mapping[str, int]) -> UnitCounts:
        """Count units. List and read the units with a problem a second time.

        A retry may have written the objects of these units after `sizes` were listed.
        """
        try:
            counts = count_units(self.fs, self.root, units, sizes)
        except StoreError:  # also raised if an object has become shorter
            current = self.committed_sizes()
            if all(current.get(unit.name) == sizes[unit.name] for unit in units):
                raise
            counts = UnitCounts(problems={unit.name: "is missing" for unit in units})
        if not counts.problems:
            return counts
        current = self.committed_sizes()
        listed = [unit for unit in units if unit.name in counts.problems and unit.name in current]
        second = count_units(self.fs, self.root, listed, current)
        missing = {name: problem for name, problem in counts.problems.items() if name not in current}
        return UnitCounts(counts.stats + second.stats, missing | second.problems, counts.dead | second.dead)

    def reconcile_dead_letters(self, units: Sequence[Unit], sizes: Mapping[str, int]) -> UnitCounts:
        """Count committed units, and make dead/ agree with them. No other run may work on these units meanwhile.

        Raises IncompleteError if a unit is not as planned, StoreError if the store fails.
        """
        names = {unit.name for unit in units}
        dead = {name: size for name, size in self.object_sizes("dead").items() if name in names}
        counts = self._count_twice(units, sizes).or_raise(self.uri)
        return reconcile_dead_letters(self.fs, self.root, counts, dead).or_raise(self.uri)

    def manifest_if_success(self) -> dict[str, Any] | None:
        """Read the manifest, or return None if the output has no _SUCCESS."""
        if not self.fs.exists(f"{self.root}/{SUCCESS}"):
            return None
        return self.last_manifest()

    def last_manifest(self) -> dict[str, Any]:
        """Read the last manifest, even if the output has no _SUCCESS. Return {} if there is none.

        Raises JobError if the manifest is broken.
        """
        try:
            data = self.fs.cat_file(f"{self.root}/{MANIFEST}")
        except FileNotFoundError:
            return {}
        with as_job_error(f"{self.uri}/{MANIFEST}", MANIFEST_ADVICE):
            manifest: dict[str, Any] = json.loads(data)
            if not isinstance(manifest, dict):
                raise TypeError(f"expected a JSON object, got {type(manifest).__name__}")
            manifest.setdefault("parity", {})  # absent before version 0.4
            if invalid := [name for name, zero in _SUMS.items() if not isinstance(manifest.get(name), type(zero))]:
                raise ValueError(f"keys that are missing or have another type: {', '.join(invalid)}")
        return manifest

    def finished_manifest(self, plan: Plan) -> dict[str, Any] | None:
        """Return the manifest if the output has _SUCCESS and every unit is committed, else None."""
        manifest = self.manifest_if_success()
        done = self.committed_sizes() if manifest else {}
        return manifest if all(unit.name in done for unit in plan.units) else None

    def remove_success(self) -> None:
        """Remove _SUCCESS, because units are missing or are about to change."""
        remove_object(self.fs, f"{self.root}/{SUCCESS}")

    def finish(
        self,
        plan: Plan,
        about: Mapping[str, Any],
        check_ownership: Callable[[], None],
        parity: Parity | None = None,
        max_dead: Limit | None = None,
    ) -> dict[str, Any]:
        """Count the objects in the store, then write the manifest and _SUCCESS, and return the manifest.

        about: other entries of the manifest. check_ownership: a function that raises an error if this run no longer
        owns the sink. It is called last, before _SUCCESS is written.

        Raises IncompleteError if a unit is missing, if the rows of a unit differ from the plan, or if an object belongs
        to no unit. Raises DeadLettersError if there are more dead letters than `max_dead` allows. In both cases neither
        file is written. Raises ParityError if the run differs from its reference by more than `parity` allows. In this
        case only the manifest is written, and it has the figures.
        """
        committed, units = self.committed_sizes(), {unit.name for unit in plan.units}
        missing = units - committed.keys()
        for folder, names in (("data", committed.keys()), ("dead", self.object_sizes("dead").keys())):
            if foreign := names - units:
                raise IncompleteError(
                    f"{self.uri}/{folder} holds {len(foreign)} objects that belong to no unit of the plan, such as "
                    f"{min(foreign)}; remove them"
                )
        if missing:
            raise IncompleteError(
                f"{plan.rows + plan.dead_shards} rows are planned, but {len(missing)} of {len(plan.units)} units are "
                f"missing in {self.uri}, such as {min(missing)}; run the job again"
            )
        stats = self.reconcile_dead_letters(plan.units, committed).stats
        check_max_dead(stats, plan.rows + plan.dead_shards, max_dead)
        counted = {**asdict(stats), "padding": stats.padding, "shards": plan.shards}
        manifest = {**about, **counted, "parity": parity_summary(stats, plan, parity)}
        write_object(self.fs, f"{self.root}/{MANIFEST}", json.dumps(manifest, indent=2).encode())
        if parity and (problem := parity_problem(stats, plan, parity)):
            raise ParityError(f"{problem}. {SUCCESS} is not written; the figures are in {self.uri}/{MANIFEST}")
        check_ownership()
        write_object(self.fs, f"{self.root}/{SUCCESS}", b"")
        return manifest


def open_output(sink: Sink) -> Output:
    """Open the folder of a sink, which need not exist yet.

    Raises JobError if it cannot be reached, StoreError if the store fails.
    """
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
    except Exception as error:  # stores raise exceptions of many types
        raise JobError(f"cannot reach sink {sink.uri}: {explain(error)}") from error
    return Output(fs, root, sink.uri)


def _check_bucket(fs: Any, bucket: str) -> None:
    """Raise FileNotFoundError if a bucket does not exist, because some servers would create it at the first write."""
    try:
        fs.call_s3("head_bucket", Bucket=bucket)
    except FileNotFoundError:
        raise FileNotFoundError(f"no such bucket: {bucket}") from None
    except PermissionError:
        return  # a role may be allowed to write to a folder, but not to inspect its bucket

"""Failing stores, which are not broken corpora, and the order of object writes, in which the last write commits."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest
from fsspec import AbstractFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from distilray.model.errors import StoreError
from distilray.model.storage import store as store_module
from distilray.operators.errors import UnitError
from distilray.operators.rows import schema as s
from distilray.operators.rows.unit import Unit
from distilray.operators.write import Write
from distilray.pipeline import Compute, Job, Sink, Source, TokenClassification
from distilray.pipeline.commands.run import execute
from distilray.pipeline.corpus.survey import survey
from distilray.pipeline.planning.compute_target import find_target
from distilray.pipeline.planning.make_plan import make_plan
from tests.support import random_texts, write_shard


class FaultyStore(MemoryFileSystem):
    """A store in memory that can refuse reads from an offset on, and that records its writes."""

    protocol = "faulty"
    store: dict = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012
    fails_at: int | None = None
    writes: list[str] = []  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.replace("faulty://", "memory://"))

    def _open(self, path: str, mode: str = "rb", **kwargs: object) -> object:
        file = super()._open(path, mode, **kwargs)
        if mode == "rb" and self.fails_at is not None and path.endswith(".parquet"):
            return FaultyFile(file, self.fails_at)
        return file

    cat_file = AbstractFileSystem.cat_file  # through open, whose reads may fail

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: object) -> None:
        self.writes.append(path)
        super().pipe_file(path, value, mode, **kwargs)


class FaultyFile(AbstractContextManager):
    def __init__(self, file: object, fails_at: int) -> None:
        self.file, self.fails_at = file, fails_at

    def __getattr__(self, name: str) -> object:
        return getattr(self.file, name)

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def read(self, size: int = -1) -> bytes:
        if self.file.tell() < self.fails_at:
            raise ConnectionResetError("the store hung up")
        return self.file.read(size)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyStore]:
    """A store with one shard of 50 rows in five row groups at faulty://corpus/."""
    monkeypatch.setattr(store_module, "_PAUSE", 0.01)
    fsspec.register_implementation("faulty", FaultyStore, clobber=True)
    FaultyStore.store.clear()
    FaultyStore.writes.clear()
    FaultyStore.fails_at = None
    shard = write_shard(tmp_path / "a.parquet", [*random_texts(49, 1), None], row_group_size=10)
    store = FaultyStore()
    store.pipe_file("/corpus/a.parquet", shard.read_bytes())
    FaultyStore.writes.clear()
    yield store
    FaultyStore.fails_at = None


def job(checkpoint: Path) -> Job:
    return Job(
        source=Source(uri="faulty://corpus/"),
        tasks=[TokenClassification(model=str(checkpoint))],
        sink=Sink(uri="faulty://out"),
        compute=Compute(engine="local", unit_bytes=1),
    )


def test_a_failing_store_during_planning_is_an_error(store: FaultyStore, checkpoint: Path) -> None:
    FaultyStore.fails_at = 10**9
    with pytest.raises(StoreError, match=r"cannot read shard .*a.parquet: ConnectionResetError.* \(failed 4 times\)"):
        execute(job(checkpoint))
    assert FaultyStore.writes == []


def test_a_failing_store_rejects_no_row_and_the_next_run_finishes(store: FaultyStore, checkpoint: Path) -> None:
    whole = job(checkpoint)
    survey(whole.source, whole.inputs)
    seen = []

    def fail_at_the_third_unit(_: object) -> None:
        seen.append(1)
        FaultyStore.fails_at = 10**9 if len(seen) == 3 else None

    with pytest.raises(OSError, match="the store hung up"):
        execute(whole, on_unit=fail_at_the_third_unit)
    FaultyStore.fails_at = None
    assert not [path for path in FaultyStore.writes if "/dead/" in path]
    result = execute(whole)
    assert (result.manifest["rows"], result.manifest["dead"]) == (49, {"null_text": 1})
    assert result.computed.units == result.manifest["units"] - 3


def test_objects_are_written_in_the_order_of_the_protocol(store: FaultyStore, checkpoint: Path) -> None:
    execute(job(checkpoint))
    writes = [path.removeprefix("/out/") for path in FaultyStore.writes]
    assert writes[0] == "_plan.parquet"
    assert writes[-2:] == ["_manifest.json", "_SUCCESS"]
    (dead,) = (path for path in writes if path.startswith("dead/"))
    assert writes.index(dead) + 1 == writes.index(dead.replace("dead/", "data/"))


def test_a_unit_with_extra_or_foreign_rows_is_not_committed(store: FaultyStore, checkpoint: Path) -> None:
    whole = job(checkpoint)
    plan = make_plan(whole, survey(whole.source, whole.inputs), find_target(whole.compute))
    read, unit = plan.read, plan.units[0]
    assert isinstance(unit, Unit)
    table = read(unit)
    write = Write("faulty://out", job(checkpoint).tasks, pa.schema([]), pa.schema([("entities", s.ENTITIES)]))
    with pytest.raises(UnitError, match=rf"expected {unit.rows} rows, got {2 * unit.rows}"):
        write(pa.concat_tables([table, table]))
    with pytest.raises(UnitError, match="expected the rows of one unit"):
        write(pa.concat_tables([table, read(plan.units[1])]))
    assert FaultyStore.writes == []

"""A store that fails is not a corpus that is broken, and puts come in the order that makes the last one the commit."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest
from fsspec import AbstractFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from distilray.model.errors import StoreError
from distilray.model.storage import store as patient
from distilray.operators.errors import UnitError
from distilray.operators.rows import schema as s
from distilray.operators.rows.unit import Unit
from distilray.operators.write import Write
from distilray.pipeline import Compute, Job, Sink, Source, TokenClassification
from distilray.pipeline.commands.run import execute
from distilray.pipeline.corpus.survey import survey
from distilray.pipeline.planning.compute_target import find_target
from distilray.pipeline.planning.planner import make_plan
from tests.support import random_texts, write_shard


class FaultyStore(MemoryFileSystem):
    """A real store in memory that can refuse reads from some offset on, and remembers its puts."""

    protocol = "faulty"
    store: dict = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012
    fails_at: int | None = None
    puts: list[str] = []  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.replace("faulty://", "memory://"))

    def _open(self, path: str, mode: str = "rb", **kwargs: object) -> object:
        file = super()._open(path, mode, **kwargs)
        if mode == "rb" and self.fails_at is not None and path.endswith(".parquet"):
            return FaultyFile(file, self.fails_at)
        return file

    cat_file = AbstractFileSystem.cat_file  # through open, not around it

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: object) -> None:
        self.puts.append(path)
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
    """Holds one shard of five row groups, 50 rows, at faulty://corpus/."""
    monkeypatch.setattr(patient, "_PAUSE", 0.01)
    fsspec.register_implementation("faulty", FaultyStore, clobber=True)
    FaultyStore.store.clear()
    FaultyStore.puts.clear()
    FaultyStore.fails_at = None
    shard = write_shard(tmp_path / "a.parquet", [*random_texts(49, 1), None], row_group_size=10)
    store = FaultyStore()
    store.pipe_file("/corpus/a.parquet", shard.read_bytes())
    FaultyStore.puts.clear()
    yield store
    FaultyStore.fails_at = None


def job(checkpoint: Path) -> Job:
    return Job(
        source=Source(uri="faulty://corpus/"),
        tasks=[TokenClassification(model=str(checkpoint))],
        sink=Sink(uri="faulty://out"),
        compute=Compute(engine="local", unit_bytes=1),
    )


def test_a_failing_store_is_an_error_while_planning(store: FaultyStore, checkpoint: Path) -> None:
    FaultyStore.fails_at = 10**9
    with pytest.raises(StoreError, match=r"cannot read shard .*a.parquet: ConnectionResetError.* \(failed 4 times\)"):
        execute(job(checkpoint))
    assert FaultyStore.puts == []


def test_a_failing_store_makes_no_dead_letters_and_the_next_run_finishes(store: FaultyStore, checkpoint: Path) -> None:
    whole = job(checkpoint)
    survey(whole.source, whole.inputs)
    seen = []

    def break_down(_: object) -> None:
        seen.append(1)
        FaultyStore.fails_at = 10**9 if len(seen) == 3 else None

    with pytest.raises(OSError, match="the store hung up"):
        execute(whole, on_unit=break_down)
    FaultyStore.fails_at = None
    assert not [path for path in FaultyStore.puts if "/dead/" in path]
    result = execute(whole)
    assert (result.manifest["rows"], result.manifest["dead"]) == (49, {"null_text": 1})
    assert result.computed.units == result.manifest["units"] - 3


def test_puts_come_in_the_order_of_the_protocol(store: FaultyStore, checkpoint: Path) -> None:
    execute(job(checkpoint))
    puts = [path.removeprefix("/out/") for path in FaultyStore.puts]
    assert puts[0] == "_plan.parquet"
    assert puts[-2:] == ["_manifest.json", "_SUCCESS"]
    (dead,) = (path for path in puts if path.startswith("dead/"))
    assert puts.index(dead) + 1 == puts.index(dead.replace("dead/", "data/"))


def test_a_unit_with_a_row_too_many_or_of_another_is_not_committed(store: FaultyStore, checkpoint: Path) -> None:
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
    assert FaultyStore.puts == []

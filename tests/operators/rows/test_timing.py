"""The timings of the stages of a unit: they are complete and not negative, and no file contains them."""

from pathlib import Path

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from distilray.operators.objects.unit_object import DEAD_KEY, STATS_KEY, UNIT_KEY
from distilray.operators.predict import PredictUnit
from distilray.operators.read import Read
from distilray.operators.rows.timing import timing_of, waits
from distilray.operators.rows.unit import Unit
from distilray.operators.tasks import TokenClassification
from distilray.operators.tokenize import TokenizeUnit
from distilray.operators.worker_config import ComputeSpec
from distilray.operators.write import Write, commit_of
from distilray.pipeline.planning.checked_tasks import check_tasks
from tests.support import metadata_of, random_texts, write_shard

INSTANTS = st.floats(0, 100)


@given(INSTANTS, INSTANTS, INSTANTS)
def test_every_moment_before_a_unit_is_either_starved_or_held(free: float, tokenized: float, start: float) -> None:
    starved, held = waits(free, tokenized, start)
    assert starved >= 0
    assert held >= 0
    assert abs(starved + held - max(start - free, 0)) < 1e-9


def test_the_end_of_tokenization_divides_the_wait() -> None:
    assert waits(free=10, tokenized=13, start=14) == (3, 1)
    assert waits(free=10, tokenized=9, start=14) == (0, 4)
    assert waits(free=10, tokenized=99, start=14) == (4, 0)  # the clocks of two machines may differ


def test_a_commit_has_the_seconds_of_all_stages_and_the_file_has_none(checkpoint: Path, tmp_path: Path) -> None:
    path = write_shard(tmp_path / "a.parquet", random_texts(20, 1))
    tasks = [TokenClassification(model=str(checkpoint))]
    predict = PredictUnit(tasks, ComputeSpec(dtype="float32"))
    write = Write(str(tmp_path / "out"), tasks, pa.schema([]), check_tasks(tasks).answers)
    read = Read("text", pa.schema([]), pa.schema([]), pa.schema([]))
    timings = []
    for name in ("first", "second"):
        unit = Unit(name, str(path), str(path.stat().st_size), (0, 1), 0, 0, 20)
        answered = predict(TokenizeUnit(tasks)(read(unit)))
        assert timing_of(answered).write == 0
        timings.append(commit_of(write(answered)).timing)
        assert metadata_of(tmp_path / f"out/data/{name}.parquet").keys() == {STATS_KEY, UNIT_KEY, DEAD_KEY}
    first, second = timings
    for timing in timings:
        assert min(timing.read, timing.tokenize, timing.predict, timing.write) > 0
        assert timing.predicted > timing.tokenized
    assert first.worker == second.worker != ""
    # starting is the time before the first unit of a worker; starved and held are the times between its units
    assert first.starting > 0 == first.starved + first.held
    assert second.starved > 0 == second.starting

"""The overlap of stages on Ray, tested with workers that wait for other units instead of with a clock."""

import time
from pathlib import Path

import pyarrow as pa
import pytest

from distilray.operators.predict import PredictUnit
from distilray.operators.tokenize import TokenizeUnit
from distilray.pipeline import Compute, Job, Sink, Source, TokenClassification
from distilray.pipeline.commands.run import execute
from distilray.pipeline.engines import ray_data
from tests.support import random_texts, write_shard

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

UNITS, PATIENCE = 6, 240


@pytest.mark.usefixtures("cluster")
def test_stages_of_neighbouring_units_overlap(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The predict worker keeps each unit until others have passed the other stages. Without overlap it times out."""
    for number in range(UNITS):
        write_shard(tmp_path / f"in/{number}.parquet", random_texts(10, number))
    marks, data = tmp_path / "marks", tmp_path / "out/data"
    marks.mkdir()

    class Marking(TokenizeUnit):
        def __call__(self, table: pa.Table) -> pa.Table:
            tokenized = super().__call__(table)
            (marks / table["_unit"][0].as_py()).touch()
            return tokenized

    class Waiting(PredictUnit):
        calls = 0

        def __call__(self, table: pa.Table) -> pa.Table:
            self.calls += 1
            self._until(marks, "*", min(self.calls + 1, UNITS))
            self._until(data, "[0-9]*.parquet", self.calls - 1)
            return super().__call__(table)

        def _until(self, folder: Path, pattern: str, count: int) -> None:
            for _ in range(PATIENCE * 20):
                if len(list(folder.glob(pattern))) >= count:
                    return
                time.sleep(0.05)
            raise TimeoutError(f"unit {self.calls}: no {count} of {pattern} in {folder}")

    monkeypatch.setattr(ray_data, "TokenizeUnit", Marking)
    monkeypatch.setattr(ray_data, "RayPredict", Waiting)
    result = execute(
        Job(
            source=Source(uri=str(tmp_path / "in")),
            tasks=[TokenClassification(model=str(checkpoint))],
            sink=Sink(uri=str(tmp_path / "out")),
            compute=Compute(dtype="float32"),
        )
    )
    timing = result.manifest["timing"]
    assert (timing["units"], timing["workers"]) == (UNITS, 1)
    assert (
        min(timing[stage] for stage in ("read", "tokenize", "predict", "write")) > 0
    )  # the times of all stages arrive in the manifest

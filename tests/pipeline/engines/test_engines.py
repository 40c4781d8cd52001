"""The local engine and the Ray engine write identical files."""

from pathlib import Path

import pytest

from distilray.pipeline import Compute, Job, Sink, Source, TokenClassification
from distilray.pipeline.commands.run import execute
from tests.support import output_bytes, random_texts, write_shard

pytestmark = pytest.mark.cluster


@pytest.mark.usefixtures("cluster")
@pytest.mark.slow
def test_local_and_ray_write_identical_files(checkpoint: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    for year in (2023, 2024):
        texts = [*random_texts(150, year), None, "", "lincoln " * 2000]
        write_shard(corpus / f"year={year}/a.parquet", texts, row_group_size=40, id=list(range(153)))
    (corpus / "broken.parquet").write_bytes(b"PAR1 is not enough")
    manifests = []
    for engine in ("local", "ray"):
        job = Job(
            source=Source(uri=str(corpus), keep=["id"]),
            tasks=[TokenClassification(model=str(checkpoint))],
            sink=Sink(uri=str(tmp_path / engine)),
            compute=Compute(engine=engine, unit_bytes=5000),
        )
        manifests.append(execute(job).manifest)
    local, ray = (output_bytes(tmp_path / engine) for engine in ("local", "ray"))
    assert len(local) > 8
    assert local == ray
    assert manifests[0]["dead"] == manifests[1]["dead"] == {"null_text": 2, "unreadable_shard": 1}

"""A corpus with row groups that cannot be read, its repair, and the output that a run over the repaired shards has."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import yaml

from distilray.pipeline import load_job
from distilray.pipeline.commands.run import execute
from distilray.pipeline.commands.verify import verify
from tests.support import read_output

UNREADABLE, NULL = "unreadable_row_group", "null_text"


def write_job(folder: Path, checkpoint: Path, keep: Sequence[str] = ()) -> Path:
    """Write `job.yaml`, a job over the shards in `in`, and make the folder `whole` for backups of shards."""
    (folder / "whole").mkdir()
    raw = {
        "source": {"uri": str(folder / "in"), "keep": list(keep)},
        "tasks": [{"task": "token-classification", "model": str(checkpoint)}],
        "sink": {"uri": str(folder / "out")},
        "compute": {"engine": "local", "dtype": "float32"},
    }
    (folder / "job.yaml").write_text(yaml.safe_dump(raw))
    return folder / "job.yaml"


def break_row_group(path: Path, backup: Path) -> None:
    """Write zeros over the third row group, as a faulty disk may. The original file goes to `backup`."""
    data = bytearray(path.read_bytes())
    backup.write_bytes(data)
    chunk = pq.read_metadata(path).row_group(2).column(0)
    first = chunk.dictionary_page_offset or chunk.data_page_offset
    data[first : first + chunk.total_compressed_size] = bytes(chunk.total_compressed_size)
    path.write_bytes(data)


def restore_shards(job: Path) -> None:
    """Restore the shards from their backups, with unchanged sizes and times, so that the plan still accepts them."""
    for backup in (job.parent / "whole").iterdir():
        path = job.parent / "in" / backup.name
        times = path.stat()
        path.write_bytes(backup.read_bytes())
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def output_uri(job: Path) -> str:
    return str(job.parent / "out")


def answers(folder: str | Path) -> list[tuple[str, int, int, list[str]]]:
    """Return the address, the kept column and the texts of entities of each row.

    Scores are left out, because their last digits differ in other packs.
    """
    rows = read_output(folder).to_pylist()
    return [(row["shard"], row["row"], row["id"], [e["text"] for e in row["entities"]]) for row in rows]


def assert_equals_unbroken_run(job: Path) -> None:
    """Assert that the output equals that of a run over the restored shards."""
    assert verify(output_uri(job)).problems == []
    fresh = load_job(job, [f"sink.uri={job.parent / 'fresh'}"])
    expected = execute(fresh).manifest
    assert answers(output_uri(job)) == answers(job.parent / "fresh")
    assert read_output(output_uri(job), "dead").equals(read_output(job.parent / "fresh", "dead"))
    manifest = json.loads((job.parent / "out/_manifest.json").read_text())
    for name in ("units", "rows", "tokens", "dead", "labels", "truncated", "backends", "shards", "padding", "job"):
        if name != "job":
            assert manifest[name] == expected[name], name
    assert manifest["job"] == load_job(job).description()

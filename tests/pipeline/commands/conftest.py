"""Fixtures that several modules of this folder share."""

from pathlib import Path

import pytest

from tests.pipeline.commands.broken_corpus import break_row_group, write_job
from tests.support import random_texts, write_shard


@pytest.fixture
def broken_job(checkpoint: Path, tmp_path: Path) -> Path:
    """A job over three units of 40 rows and a shard without any readable row.

    Two units have an unreadable row group and two null texts each. One of the two null texts is in the unreadable row
    group.
    """
    job = write_job(tmp_path, checkpoint, keep=["id"])
    for number in range(3):
        texts = random_texts(40, number)
        if number < 2:
            texts[7] = texts[25] = None
        path = write_shard(tmp_path / f"in/{number}.parquet", texts, row_group_size=10, id=list(range(40)))
        if number < 2:
            break_row_group(path, tmp_path / f"whole/{number}.parquet")
    (tmp_path / "in/9.parquet").write_text("no Parquet")
    return job

"""What others see of an output while a retry is at work there: a report, and Prometheus."""

import json
import shutil
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
import yaml

from distilray.operators.rows.unit import Unit
from distilray.operators.worker_config import WorkerConfig
from distilray.operators.write import Commit, Write
from distilray.pipeline import load_job
from distilray.pipeline.commands.retry import retry
from distilray.pipeline.commands.run import execute
from distilray.pipeline.engines import local
from distilray.pipeline.engines.actor_pools import ActorPool, ActorPools
from distilray.pipeline.errors import IncompleteError
from distilray.pipeline.planning.compute_target import ComputeTarget
from distilray.pipeline.report.output_page import report_page
from distilray.pipeline.sink import output as commit
from distilray.pipeline.sink.reconcile import UnitCounts
from tests.pipeline.commands.test_retry import break_a_row_group, mend
from tests.pipeline.report.pages import Page
from tests.support import random_texts, write_shard


@pytest.fixture(scope="module")
def finished(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output of three units of 30 rows, of which two had a row group that could not be read, and now can."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "whole").mkdir()
    for number in range(3):
        path = write_shard(folder / f"in/{number}.parquet", random_texts(30, number), row_group_size=10)
        if number < 2:
            break_a_row_group(path, folder / f"whole/{number}.parquet")
    raw = {
        "source": {"uri": str(folder / "in")},
        "tasks": [{"task": "token-classification", "model": str(checkpoint)}],
        "sink": {"uri": str(folder / "out")},
        "compute": {"engine": "local", "dtype": "float32"},
    }
    (folder / "job.yaml").write_text(yaml.safe_dump(raw))
    execute(load_job(folder / "job.yaml"))
    mend(folder / "job.yaml")
    return folder / "out"


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(finished, tmp_path / "out")
    return tmp_path / "out"


def test_a_report_finds_nothing_wrong_with_an_object_that_was_put_meanwhile(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (out / "_SUCCESS").unlink()  # as a retry begins
    inner = commit.count_units

    def late(*args: object) -> UnitCounts:
        """Sizes were listed, and no footer was read."""
        monkeypatch.setattr(commit, "count_units", inner)
        retry(str(out))
        return inner(*args)

    monkeypatch.setattr(commit, "count_units", late)
    page = Page(report_page(str(out), rows=0))
    assert "Unfinished: 3 of 3 units" in page.text
    assert (page.figures["units"], page.figures["rows"], page.figures["dead_letters"]) == ("3", "90", "0")


class Meter:
    """In the place of those of ray.util.metrics. last: what each gauge was set to last; tags: all that came."""

    last: ClassVar[dict[str, float]] = {}
    tags: ClassVar[list[dict[str, str]]] = []

    def __init__(self, name: str, *_: object) -> None:
        self.name = name

    def inc(self, _: float, tags: dict[str, str]) -> None:
        self.tags.append(tags)

    def set(self, value: float, tags: dict[str, str]) -> None:
        self.last[self.name] = value
        self.tags.append(tags)


def test_metrics_of_a_retry_are_of_the_plan_whatever_is_overridden_and_missing(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fingerprint = json.loads((out / "_manifest.json").read_text())["fingerprint"]
    sorted((out / "data").iterdir())[2].unlink()
    begun: list[dict[str, float]] = []

    def run_units(
        work: WorkerConfig, write: Write, todo: list[Unit], _: ActorPools, __: float, set_gauges: Callable[[], None]
    ) -> Iterator[Commit]:
        set_gauges()
        begun.append(dict(Meter.last))
        return local.run_units(work, write, todo)

    ray = SimpleNamespace(metrics=SimpleNamespace(Counter=Meter, Gauge=Meter), run_units=run_units)
    monkeypatch.setattr(import_module("distilray.pipeline.commands.compute"), "import_ray_engine", lambda: ray)
    target = ComputeTarget(on_gpu=False, pools=ActorPools(ActorPool(1, 1, 1), ActorPool(1, 1, 1), 1, 1), on_cluster=False)
    monkeypatch.setattr(import_module("distilray.pipeline.commands.retry"), "find_target", lambda *_: target)
    with pytest.raises(IncompleteError, match="1 of 3 units are missing"):
        retry(str(out), ["compute.dtype=auto"])
    assert begun == [{"distilray_units_planned": 3, "distilray_units_done": 0}]  # both that are there are tried again
    assert Meter.last == {"distilray_units_planned": 3, "distilray_units_done": 2}
    assert {tags["fingerprint"] for tags in Meter.tags} == {fingerprint}

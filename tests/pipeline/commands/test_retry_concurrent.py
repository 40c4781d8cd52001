"""An output that others read while a retry changes it: a report, a verification, and Prometheus."""

import json
import shutil
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import pytest

from distilray.operators.rows.unit import Unit
from distilray.operators.worker_config import WorkerConfig
from distilray.operators.write import Commit, Write
from distilray.pipeline import load_job
from distilray.pipeline.commands.retry import retry
from distilray.pipeline.commands.run import execute
from distilray.pipeline.commands.verify import verify
from distilray.pipeline.engines import local
from distilray.pipeline.engines.actor_pools import ActorPool, ActorPools
from distilray.pipeline.errors import IncompleteError
from distilray.pipeline.planning.compute_target import ComputeTarget
from distilray.pipeline.report.output_page import report_page
from distilray.pipeline.sink import output
from distilray.pipeline.sink.reconcile import UnitCounts
from tests.pipeline.commands.broken_corpus import break_row_group, output_uri, restore_shards, write_job
from tests.pipeline.report.pages import Page
from tests.support import random_texts, write_shard


@pytest.fixture(scope="module")
def finished(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of three units of 30 rows. Two units had an unreadable row group during the run, restored since."""
    folder = tmp_path_factory.mktemp("finished")
    job = write_job(folder, checkpoint)
    for number in range(3):
        path = write_shard(folder / f"in/{number}.parquet", random_texts(30, number), row_group_size=10)
        if number < 2:
            break_row_group(path, folder / f"whole/{number}.parquet")
    execute(load_job(job))
    restore_shards(job)
    return folder / "out"


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished output."""
    shutil.copytree(finished, tmp_path / "out")
    return tmp_path / "out"


def retry_before_count(patch: pytest.MonkeyPatch, module: ModuleType, out: str) -> None:
    """Run a retry when `module` has listed the sizes of the objects, and has not read their footers."""
    inner = module.count_units

    def count_units(*arguments: object) -> UnitCounts:
        patch.setattr(module, "count_units", inner)
        retry(out)
        return inner(*arguments)

    patch.setattr(module, "count_units", count_units)


def test_a_report_accepts_objects_that_a_retry_replaces_meanwhile(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (out / "_SUCCESS").unlink()  # a retry starts with this
    retry_before_count(monkeypatch, output, str(out))
    page = Page(report_page(str(out), rows=0))
    assert "Unfinished: 3 of 3 units" in page.text
    assert (page.figures["units"], page.figures["rows"], page.figures["dead_letters"]) == ("3", "90", "0")


def test_verify_recognizes_an_output_that_a_retry_changes_meanwhile(
    broken_job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(load_job(broken_job))
    restore_shards(broken_job)
    retry_before_count(monkeypatch, import_module("distilray.pipeline.commands.verify"), output_uri(broken_job))
    (problem,) = verify(output_uri(broken_job)).problems
    assert problem.startswith("the output changed while it was read")
    assert verify(output_uri(broken_job)).ok


class Meter:
    """A replacement of the counters and gauges of ray.util.metrics.

    last: the last value of each gauge. tags: the tags of all updates.
    """

    last: ClassVar[dict[str, float]] = {}
    tags: ClassVar[list[dict[str, str]]] = []

    def __init__(self, name: str, *_: object) -> None:
        self.name = name

    def inc(self, _: float, tags: dict[str, str]) -> None:
        self.tags.append(tags)

    def set(self, value: float, tags: dict[str, str]) -> None:
        self.last[self.name] = value
        self.tags.append(tags)


def test_metrics_of_a_retry_describe_the_plan(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fingerprint = json.loads((out / "_manifest.json").read_text())["fingerprint"]
    sorted((out / "data").iterdir())[2].unlink()
    at_start: list[dict[str, float]] = []

    def run_units(
        work: WorkerConfig, write: Write, todo: list[Unit], _: ActorPools, __: float, set_gauges: Callable[[], None]
    ) -> Iterator[Commit]:
        set_gauges()
        at_start.append(dict(Meter.last))
        return local.run_units(work, write, todo)

    ray = SimpleNamespace(metrics=SimpleNamespace(Counter=Meter, Gauge=Meter), run_units=run_units)
    monkeypatch.setattr(import_module("distilray.pipeline.commands.compute"), "import_ray_engine", lambda: ray)
    target = ComputeTarget(
        on_gpu=False, pools=ActorPools(ActorPool(1, 1, 1), ActorPool(1, 1, 1), 1, 1), on_cluster=False
    )
    monkeypatch.setattr(import_module("distilray.pipeline.commands.retry"), "find_target", lambda *_: target)
    with pytest.raises(IncompleteError, match="1 of 3 units are missing"):
        retry(str(out), ["compute.dtype=auto"])
    assert at_start == [
        {"distilray_units_planned": 3, "distilray_units_done": 0}
    ]  # the retry covers both existing units
    assert Meter.last == {"distilray_units_planned": 3, "distilray_units_done": 2}
    assert {tags["fingerprint"] for tags in Meter.tags} == {fingerprint}

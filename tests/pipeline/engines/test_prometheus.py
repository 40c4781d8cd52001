"""Prometheus metrics of a run, which equal its summary, and the Grafana dashboard, which uses only existing metrics."""

import json
import os
import re
import signal
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import promql_parser
import pytest
from prometheus_client.parser import text_string_to_metric_families

from distilray.pipeline.engines.prometheus import COUNTERS, GAUGES
from tests.ray_head import head
from tests.support import slow_job
from tests.test_submit import submit

ROOT = Path(__file__).resolve().parents[3]
OURS = {f"ray_{name}_total" for name in COUNTERS} | {f"ray_{name}" for name in GAUGES}
OF_GPUS = {"ray_node_gpus_utilization", "ray_node_gram_used"}  # a machine without GPUs has no samples of them

Scrape = dict[str, list[tuple[dict[str, str], float]]]  # labels and value of each sample, by name


@dataclass
class Watched:
    """A run on a cluster whose predict worker was killed once.

    running, ended: the scraped metrics during the run and at its end. names: the names of all scraped metrics. result:
    the last line of the run. log: its output.
    """

    running: Scrape
    ended: Scrape
    names: set[str]
    result: dict[str, Any]
    manifest: dict[str, Any]
    log: str


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    folder = tmp_path_factory.mktemp("watched")
    job = slow_job(folder, 200)
    command = ["python", "-m", "distilray", "run", str(job), "--progress", "json"]
    command += ["--set", "compute.engine=ray", "--set", "compute.predict.max=1"]
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as pool:
        patch.setenv("RAY_metrics_report_interval_ms", "1000")
        with head(Path(sys.executable), folder, folder) as environment:
            address = environment["RAY_ADDRESS"]
            run = pool.submit(submit, environment, ["--", *command], folder)
            running = _scrape_during_run(address, run)
            os.kill(_pid_of("MapBatches(Predict)"), signal.SIGKILL)
            log = run.result()
            ended, names = _scrape_at_end(address, json.loads((folder / "alone/_manifest.json").read_text())["units"])
    result = json.loads(next(line for line in log.splitlines() if line.startswith('{"event": "result"')))
    names |= running.keys()
    return Watched(running, ended, names, result, json.loads((folder / "alone/_manifest.json").read_text()), log)


def _scrape_during_run(address: str, run: Future[str]) -> Scrape:
    while not run.done():
        with suppress(OSError):  # the cluster is still starting
            found = scrape(address)
            done, planned = (total(found, f"ray_distilray_units_{name}") for name in ("done", "planned"))
            if done < planned and total(found, "ray_distilray_units_total"):
                return found
        time.sleep(0.2)
    raise AssertionError(f"no scrape happened during the run: {run.result()}")


def _scrape_at_end(address: str, units: int) -> tuple[Scrape, set[str]]:
    """Scrape until all metrics are there.

    The last report of the driver may be late. If Ray reports every second, it drops its own gauges before it sets them
    again.
    """
    names: set[str] = set()
    for _ in range(30):
        found = scrape(address)
        names |= found.keys()
        if total(found, "ray_distilray_units_total") >= units and used_metrics() - OURS - OF_GPUS <= names:
            break
        time.sleep(1)
    return found, names


def _pid_of(title: str) -> int:
    """Return the process id of a descendant of this process."""
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]
    return next(pid for pid in pids if title in _proc_file(pid, "cmdline") and _is_descendant(pid))


def _is_descendant(pid: int) -> bool:
    while pid > 1:
        if pid == os.getpid():
            return True
        _, _, stat = _proc_file(pid, "stat").rpartition(") ")
        pid = int(stat.split()[1]) if stat else 0
    return False


def _proc_file(pid: int, what: str) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/{what}").read_text(errors="replace")
    return ""


def scrape(address: str) -> Scrape:
    """Return what Prometheus scrapes from the endpoints that the cluster lists."""
    found: Scrape = {}
    groups = json.loads(_get(f"{address}/api/prometheus/sd"))
    for target in (target for group in groups for target in group["targets"]):
        for family in text_string_to_metric_families(_get(f"http://{target}/metrics")):
            for sample in family.samples:
                found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def _get(url: str) -> str:
    with urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def total(found: Scrape, name: str, **labels: str) -> float:
    return sum(value for tags, value in found.get(name, []) if labels.items() <= tags.items())


@pytest.mark.cluster
@pytest.mark.slow
def test_a_running_job_can_be_scraped(watched: Watched) -> None:
    assert total(watched.running, "ray_distilray_units_planned") == watched.manifest["units"]
    assert 0 < total(watched.running, "ray_distilray_units_total") < watched.manifest["units"]
    tags, _ = watched.running["ray_distilray_rows_total"][0]
    assert (tags["fingerprint"], tags["tasks"]) == (watched.manifest["fingerprint"], "entities")


@pytest.mark.cluster
@pytest.mark.slow
def test_metrics_equal_the_summary_after_the_death_of_a_worker(watched: Watched) -> None:
    this_run, ended = watched.result["this_run"], watched.ended
    assert this_run["units"] == watched.manifest["units"]  # this run computed all units
    for name in ("units", "rows", "tokens", "computed_tokens"):
        assert total(ended, f"ray_distilray_{name}_total") == this_run[name] == watched.manifest[name], name
    assert watched.manifest["dead"] == {"null_text": 4}
    assert total(ended, "ray_distilray_dead_letters_total", reason="null_text") == 4
    assert total(ended, "ray_distilray_dead_letters_total") == 4
    states = {tags["state"] for tags, _ in ended["ray_distilray_seconds_total"]}
    assert {"read", "tokenize", "predict", "write", "starting"} <= states
    for state in states:
        seconds = total(ended, "ray_distilray_seconds_total", state=state)
        assert seconds == pytest.approx(watched.manifest["timing"][state])


@pytest.mark.cluster
@pytest.mark.slow
def test_progress_on_ray_shows_busy_actors(watched: Watched) -> None:
    events = [json.loads(line) for line in watched.log.splitlines() if line.startswith('{"event"')]
    workers = [event["workers"] for event in events if event.get("workers")]
    assert workers
    assert workers[-1].keys() == {"tokenize", "predict"}
    assert all(0 <= now["busy"] <= now["running"] for each in workers for now in each.values())
    assert max(each["predict"]["running"] for each in workers) == 1


def dashboard() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((ROOT / "deploy/grafana/distilray.json").read_text())
    return content


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def names(expression: str) -> set[str]:
    """Return the metrics that an expression reads. Raises ValueError if it is not valid PromQL."""
    found = set()

    def visit(part: promql_parser.Expr) -> None:
        if isinstance(part, promql_parser.VectorSelector):
            found.add(part.name)
        if isinstance(part, promql_parser.MatrixSelector):
            found.add(part.vector_selector.name)

    promql_parser.walk(promql_parser.parse(expression.replace("$window", "2m")), visit)
    return found


def used_metrics() -> set[str]:
    return {name for panel in panels() for target in panel["targets"] for name in names(target["expr"])}


@pytest.mark.cluster
@pytest.mark.slow
def test_every_panel_uses_existing_metrics(watched: Watched) -> None:
    from ray.dashboard.modules.reporter.reporter_agent import METRICS_GAUGES

    assert {f"ray_{name}" for name in METRICS_GAUGES} >= OF_GPUS
    assert used_metrics() - OF_GPUS <= watched.names
    assert watched.names >= OURS


def test_the_dashboard_shows_all_metrics_of_the_chosen_data_source() -> None:
    assert {name for name in used_metrics() if "distilray" in name} == OURS
    variables = {variable["name"]: variable for variable in dashboard()["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert {option["value"] for option in variables["window"]["options"]} == set(
        variables["window"]["query"].split(",")
    )
    (named,) = re.findall(r"label_values\((\w+), fingerprint\)", variables["fingerprint"]["definition"])
    assert named in OURS
    for panel in panels():
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        for target in panel["targets"]:
            assert ("distilray" in target["expr"]) == ('fingerprint=~"$fingerprint"' in target["expr"]), panel["title"]


def test_the_panels_of_the_dashboard_do_not_overlap() -> None:
    content = dashboard()
    assert isinstance(content["schemaVersion"], int)
    ids = [panel["id"] for panel in content["panels"]]
    assert len(set(ids)) == len(ids)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in content["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


def test_every_metric_is_documented() -> None:
    page = (ROOT / "docs/watching.md").read_text()
    assert set(re.findall(r"`(ray_distilray_\w+)` \|", page)) == OURS

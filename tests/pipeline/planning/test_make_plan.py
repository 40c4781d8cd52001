"""The plan of a first run: its forecast, the token budget that every resume keeps, and enough units for all workers."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from rich.console import Console
from rich.table import Table

from distilray.operators.encoder_passes import open_passes
from distilray.operators.predict import PredictUnit, Throughput
from distilray.operators.tasks.task import open_checkpoints
from distilray.pipeline import Compute, Job, Sink, Source
from distilray.pipeline.commands.dry_run import plan
from distilray.pipeline.commands.run import execute
from distilray.pipeline.corpus.survey import survey
from distilray.pipeline.engines.actor_pools import size_pools
from distilray.pipeline.job.job import parse_job
from distilray.pipeline.planning import make_plan as planning
from distilray.pipeline.planning.compute_target import find_target
from distilray.pipeline.planning.forecast import Forecast
from distilray.pipeline.planning.make_plan import forecast_plan, make_plan
from distilray.pipeline.sink.output import open_output
from distilray.pipeline.terminal.summary import _account, summary
from distilray.pipeline.terminal.tables import plan_table
from tests.support import make_checkpoint, output_bytes, random_texts, write_shard


def job_of(folder: Path, *tasks: dict[str, Any], **compute: Any) -> Job:
    raw = {
        "source": {"uri": str(folder / "in")},
        "tasks": list(tasks),
        "sink": {"uri": str(folder / "out")},
        "compute": {"engine": "local", "unit_bytes": 3000, "dtype": "float32", **compute},
    }
    return parse_job(raw, "test")


def printed(table: Table) -> str:
    console = Console(width=300)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def forecast_of(job: Job) -> Forecast:
    target = find_target(job.compute)
    passes, _ = open_passes(job.tasks, open_checkpoints(job.tasks))
    plan, pace = forecast_plan(job, make_plan(job, survey(job.source, job.inputs), target), passes, target)
    assert pace is None
    assert plan.forecast
    return plan.forecast


def test_a_forecast_counts_every_question_and_label(tmp_path: Path) -> None:
    nli = make_checkpoint(tmp_path / "nli", ("contradiction", "entailment"), head="sequence-classification")
    qa = make_checkpoint(tmp_path / "qa", head="question-answering", positions=64)
    write_shard(tmp_path / "in/a.parquet", [*random_texts(30, 1, words=(1, 120)), None, ""], row_group_size=32)
    labels = {"task": "zero-shot-classification", "model": str(nli), "labels": ["war", "peace", "money"]}
    asks = {"task": "question-answering", "model": str(qa), "questions": ["Who was it?", "When?"]}
    job = job_of(tmp_path, labels, asks, unit_bytes=10**6)
    forecast = forecast_of(job)
    result = execute(job)
    assert (forecast.sampled_rows, forecast.tokens) == (32, result.manifest["tokens"])
    assert forecast.computed_tokens == result.manifest["computed_tokens"]
    assert result.manifest["forecast"]["predicted"]["computed_tokens"] == forecast.computed_tokens
    assert result.manifest["forecast"]["actual"]["computed_tokens"] == forecast.computed_tokens


@pytest.mark.parametrize("kind", ["long tail", "repeated", "short"])
def test_a_sample_predicts_the_tokens_of_a_large_corpus(checkpoint: Path, tmp_path: Path, kind: str) -> None:
    texts = random_texts(6000, 3, words=(1, 40))
    if kind == "long tail":  # one row in a hundred has most of the text
        texts = [text * (60 if i % 100 == 99 else 1) for i, text in enumerate(texts)]
    elif kind == "repeated":  # Parquet stores each text once
        texts = [texts[i % 7] for i in range(6000)]
    elif kind == "short":
        texts = [text[:3] for text in texts]
    write_shard(tmp_path / "in/a.parquet", texts, row_group_size=300)
    task = {"task": "token-classification", "model": str(checkpoint)}
    job = job_of(tmp_path, task, unit_bytes=10**5)
    forecast = forecast_of(job)
    assert forecast.sampled_rows < 2500
    (tokenizer,) = open_passes(job.tasks, open_checkpoints(job.tasks))[0].tokenizer_groups
    assert forecast.tokens == pytest.approx(len(tokenizer.tokenizer(pa.array(texts)).input_ids), rel=0.1)


def test_padded_tokens_are_those_of_batches_of_32_in_corpus_order(checkpoint: Path, tmp_path: Path) -> None:
    counts = [1, 100, *[1] * 30, *[3] * 32, 7]
    write_shard(tmp_path / "in/a.parquet", [" ".join(["the"] * count) for count in counts])
    forecast = forecast_of(
        job_of(tmp_path, {"task": "token-classification", "model": str(checkpoint)}, unit_bytes=10**6)
    )
    assert forecast.computed_tokens == sum(counts) + 2 * len(counts)
    assert forecast.padded_tokens == 32 * 102 + 32 * 5 + 9


def test_rates_and_prices_give_hours_and_costs() -> None:
    unmeasured = Forecast(
        10, tokens=3_600_000, computed_tokens=7_200_000, padded_tokens=9_000_000, tokenize_rate=500.0, devices=4
    )
    assert unmeasured.description(2.5)["cost"] is None  # the device was not measured
    known = Forecast(**{**unmeasured.__dict__, "rate": 1000.0})
    description = known.share(0.5).description(2.5)
    assert (description["device_hours"], description["hours"], description["cost"]) == (1.0, 0.25, 2.5)
    assert known.tokenizers_per_device == 1.0  # a device consumes 500 tokens of texts a second


def test_a_large_corpus_is_calibrated_once_and_resumes_keep_the_budget(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_shard(tmp_path / "in/a.parquet", random_texts(120, 2), row_group_size=10)
    job = job_of(tmp_path, {"task": "token-classification", "model": str(checkpoint)})
    monkeypatch.setattr(planning, "_WORTH_CALIBRATING", 0)
    first = execute(job)
    assert first.plan.tokens_per_pack
    predicted = first.manifest["forecast"]["predicted"]
    assert predicted["device_hours"] == predicted["computed_tokens"] / predicted["rate"] / 3600
    before = output_bytes(tmp_path / "out")
    for name in sorted((tmp_path / "out/data").iterdir())[1::2]:
        name.unlink()
    (tmp_path / "out/_SUCCESS").unlink()
    monkeypatch.setattr(PredictUnit, "find_throughput", lambda *_: pytest.fail("a resume calibrates nothing"))
    budgets = []
    init = PredictUnit.__post_init__

    def watched(predict: PredictUnit) -> None:
        budgets.append(predict.compute.tokens_per_pack)
        init(predict)

    monkeypatch.setattr(PredictUnit, "__post_init__", watched)
    resumed = execute(job)
    assert budgets == [first.plan.tokens_per_pack]
    assert resumed.plan == first.plan
    assert output_bytes(tmp_path / "out") == before
    part = resumed.account["forecast"]
    assert 0 < part["predicted"]["tokens"] < predicted["tokens"]
    assert part["actual"]["tokens"] == resumed.computed.tokens


def test_a_given_budget_needs_no_calibration(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shard(tmp_path / "in/a.parquet", random_texts(5, 2))
    monkeypatch.setattr(planning, "_WORTH_CALIBRATING", 0)
    monkeypatch.setattr(PredictUnit, "find_throughput", lambda *_: pytest.fail("a budget was given"))
    job = job_of(tmp_path, {"task": "token-classification", "model": str(checkpoint)}, tokens_per_pack=600)
    assert execute(job).plan.tokens_per_pack == 600


def test_a_calibration_of_another_device_is_not_used(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write_shard(tmp_path / "in/a.parquet", random_texts(5, 2))
    monkeypatch.setattr(planning, "_WORTH_CALIBRATING", 0)
    monkeypatch.setattr(PredictUnit, "find_throughput", lambda *_: Throughput(4096, 1e6, True, "NVIDIA H100"))
    job = job_of(tmp_path, {"task": "token-classification", "model": str(checkpoint)})
    result = execute(job)
    stored = open_output(job.sink).load_plan(job, result.manifest["fingerprint"])
    assert stored
    assert stored.forecast
    assert (stored.tokens_per_pack, stored.forecast.rate, stored.forecast.device) == (4096, 1e6, "NVIDIA H100")
    assert result.plan.tokens_per_pack is None
    assert result.manifest["forecast"]["predicted"]["device_hours"] is None
    assert "4096 was measured on NVIDIA H100 and is not used on a CPU" in caplog.text
    assert "are for NVIDIA H100; this run used neither" in printed(summary(result))
    gpus = planning.ComputeTarget(on_gpu=True, pools=None, on_cluster=False)
    assert planning.drop_foreign_calibration(stored, gpus) == stored


def test_a_plan_names_the_budget_that_the_job_sets(checkpoint: Path, tmp_path: Path) -> None:
    write_shard(tmp_path / "in/a.parquet", random_texts(5, 2))
    job = job_of(tmp_path, {"task": "token-classification", "model": str(checkpoint)}, tokens_per_pack=600)
    dry_run = plan(job)
    assert dry_run.description(None)["tokens_per_pack"] == 600
    assert "the job sets 600" in printed(plan_table(job, dry_run))


def test_a_corpus_without_rows_has_no_forecast(checkpoint: Path, tmp_path: Path) -> None:
    write_shard(tmp_path / "in/a.parquet", pa.array([], pa.string()))
    job = job_of(tmp_path, {"task": "token-classification", "model": str(checkpoint)})
    result = execute(job)
    assert result.plan.forecast is None
    assert result.manifest["forecast"]["predicted"] is None
    assert result.manifest["timing"]["bottleneck"] == "no unit was computed"
    assert dict(_account(result))["device-hours"] == "0; the plan has no forecast"


def test_many_workers_get_enough_units(monkeypatch: pytest.MonkeyPatch) -> None:
    many = planning.ComputeTarget(on_gpu=False, pools=size_pools(Compute(), 64, 0), on_cluster=True)
    one = planning.ComputeTarget(on_gpu=False, pools=None, on_cluster=False)
    assert planning._unit_bytes(one, 2**24) == 2**20
    assert planning._unit_bytes(many, 2**34) == 2**20
    assert 2**17 < planning._unit_bytes(many, 2**26) < 2**19
    assert planning._unit_bytes(many, 2**10) == 2**17


def test_a_budget_and_a_price_do_not_change_the_fingerprint(tmp_path: Path) -> None:
    jobs = [
        Job(source=Source(uri="x"), tasks=[{"task": "embeddings", "model": "m"}], sink=Sink(uri="y"), compute=compute)
        for compute in (Compute(), Compute(tokens_per_pack=999, price=2.5))
    ]
    assert jobs[0].fingerprint([]) == jobs[1].fingerprint([])


def test_a_sample_that_ended_a_process_is_skipped_once(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISTILRAY_CACHE", str(tmp_path / "cache"))
    write_shard(tmp_path / "in/a.parquet", random_texts(5, 2))
    job = job_of(tmp_path, {"task": "token-classification", "model": str(checkpoint)})
    target = find_target(job.compute)
    passes, _ = open_passes(job.tasks, open_checkpoints(job.tasks))
    plan = make_plan(job, survey(job.source, job.inputs), target)
    mark = tmp_path / "cache/begun" / planning.isolation_of(job, target).run / "plan-sample"
    mark.parent.mkdir(parents=True)
    mark.write_text("1 0")  # a process that has ended
    assert planning.forecast_plan_safely(job, plan, passes, target).forecast is None
    assert planning.forecast_plan_safely(job, plan, passes, target).forecast  # the first call removed the mark


def test_the_stall_limit_exceeds_the_time_to_isolate_a_hanging_row() -> None:
    assert planning.stall_seconds(Compute()) == 1800
    assert planning.stall_seconds(Compute(deadline=1000)) >= 6 * 1000  # one unit, one part of it, and four rows
    assert planning.stall_seconds(Compute(deadline=1000, stall=5)) == 5

"""Parity of sampled rows with a float32 reference: the counts, the sample, and the runs that fail."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distilray.model.network.attention import _KERNELS
from distilray.operators.objects.stats import add_parity
from distilray.operators.parity import Reference
from distilray.operators.predict import PredictUnit
from distilray.operators.rows import schema as s
from distilray.operators.tasks import (
    Embeddings,
    FillMask,
    MultipleChoice,
    QuestionAnswering,
    TextClassification,
    TokenClassification,
)
from distilray.operators.tokenize import TokenizeUnit
from distilray.operators.worker_config import ComputeSpec
from distilray.pipeline import Job, ParityError
from distilray.pipeline.cli.main import main
from distilray.pipeline.commands.run import execute
from distilray.pipeline.commands.verify import verify
from distilray.pipeline.job.job import parse_job
from tests.operators.harness import rows
from tests.support import make_checkpoint, random_texts, read_output, write_shard

ROWS = 150


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parity")
    write_shard(folder / "in.parquet", [*random_texts(ROWS - 1, 3), None], row_group_size=50)
    return folder / "in.parquet"


def job(corpus: Path, model: Path, out: Path, dtype: str, **parity: object) -> Job:
    raw = {
        "source": {"uri": str(corpus)},
        "tasks": [{"task": "token-classification", "model": str(model)}],
        "sink": {"uri": str(out)},
        "compute": {"engine": "local", "dtype": dtype, "unit_bytes": 5000, "parity": parity or None},
    }
    return parse_job(raw, "test")


def test_float32_has_no_flips(corpus: Path, checkpoint: Path, tmp_path: Path) -> None:
    result = execute(job(corpus, checkpoint, tmp_path / "out", "float32", rows=50, max_label_flips=0))
    parity = result.manifest["parity"]
    (task,) = parity["tasks"].values()
    assert parity["passed"]
    assert 30 < task["rows"] < 70
    assert task["positions"] > 10 * task["rows"]
    assert task["flips"] == 0
    assert 0 < task["difference"] < 1e-3  # sdpa and eager sum in different orders
    assert result.manifest["padding"] == 0
    assert verify(str(tmp_path / "out")).ok


def test_bfloat16_above_the_limit_fails_in_every_run(corpus: Path, checkpoint: Path, tmp_path: Path) -> None:
    strict = job(corpus, checkpoint, tmp_path / "out", "bfloat16", rows=ROWS, max_label_flips="0.01%")
    for _ in range(2):
        with pytest.raises(
            ParityError, match=r"differ from the float32 .* entities: \d+ of \d+ decisions, .* 0.0100% may"
        ):
            execute(strict)
        assert not (tmp_path / "out/_SUCCESS").exists()
        parity = json.loads((tmp_path / "out/_manifest.json").read_text())["parity"]
        assert not parity["passed"]
    task = parity["tasks"]["entities"]
    assert task["rows"] == ROWS - 1
    assert 0.0001 * task["positions"] < task["flips"] < 0.1 * task["positions"]
    assert task["difference"] > 0.01
    lenient = job(corpus, checkpoint, tmp_path / "out", "bfloat16", rows=ROWS, max_label_flips="10%")
    result = execute(lenient)  # nothing is computed again
    assert result.computed.units == 0
    assert result.manifest["parity"] == {**parity, "max_label_flips": 0.1, "passed": True}


@pytest.mark.slow
def test_flips_equal_the_differences_between_answers(corpus: Path, checkpoint: Path, tmp_path: Path) -> None:
    """Without aggregation, each flip is an answer that differs."""
    found = []
    for dtype in ("float32", "bfloat16"):
        each = job(corpus, checkpoint, tmp_path / dtype, dtype, rows=10**6, max_label_flips=1)
        raw = each.tasks[0].model_copy(update={"aggregation": "none"})
        result = execute(each.model_copy(update={"tasks": [raw]}))
        found.append(read_output(tmp_path / dtype)["entities"].to_pylist())
    labels = [[{(e["start"], e["end"], e["label"]) for e in row} for row in run] for run in found]
    differ = sum(len({at[:2] for at in a ^ b}) for a, b in zip(*labels, strict=True))
    assert differ > 0
    assert result.manifest["parity"]["tasks"]["entities"]["flips"] == pytest.approx(
        differ, rel=0.3
    )  # the packs of the runs differ


def test_units_committed_without_parity_do_not_count_as_compared(
    corpus: Path, checkpoint: Path, tmp_path: Path
) -> None:
    execute(job(corpus, checkpoint, tmp_path / "out", "float32"))
    for finished in (True, False):
        for few in (50, 5):
            with pytest.raises(ParityError, match=f"0 rows were compared, about {few} expected"):
                execute(job(corpus, checkpoint, tmp_path / "out", "float32", rows=few))
        (tmp_path / "out/_SUCCESS").unlink(missing_ok=not finished)
    assert not (tmp_path / "out/_SUCCESS").exists()


def test_a_run_whose_sampled_rows_are_all_dead_passes(checkpoint: Path, tmp_path: Path) -> None:
    texts = [None] * (20 * ROWS) + random_texts(3, 1)
    write_shard(tmp_path / "in.parquet", texts, row_group_size=50)
    for _ in range(2):
        manifest = execute(job(tmp_path / "in.parquet", checkpoint, tmp_path / "out", "float32", rows=2)).manifest
        assert manifest["parity"]["passed"]
        assert manifest["parity"]["tasks"]["entities"]["rows"] <= 3


def test_a_finished_output_above_a_new_limit_is_an_error(corpus: Path, checkpoint: Path, tmp_path: Path) -> None:
    execute(job(corpus, checkpoint, tmp_path / "out", "bfloat16", rows=ROWS, max_label_flips="10%"))
    execute(job(corpus, checkpoint, tmp_path / "out", "bfloat16"))
    with pytest.raises(ParityError, match="0.0100% may"):
        execute(job(corpus, checkpoint, tmp_path / "out", "bfloat16", rows=ROWS, max_label_flips="0.01%"))
    assert (tmp_path / "out/_SUCCESS").exists()


def test_too_many_flips_exit_with_1(corpus: Path, checkpoint: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "job.yaml").write_text(
        json.dumps(job(corpus, checkpoint, tmp_path / "out", "bfloat16", max_label_flips=0).description())
    )
    assert main(["run", str(tmp_path / "job.yaml")]) == 1
    assert "differ from the float32 reference" in capsys.readouterr().err


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One checkpoint of each head, in folders named after the heads."""
    folder = tmp_path_factory.mktemp("models")
    make_checkpoint(folder / "token")
    make_checkpoint(folder / "one", ("a", "b", "c"), head="sequence-classification")
    many = make_checkpoint(
        folder / "many", ("a", "b", "c"), head="sequence-classification", problem_type="multi_label_classification"
    )
    assert many.exists()
    make_checkpoint(folder / "number", ("x",), head="sequence-classification", problem_type="regression")
    make_checkpoint(folder / "choice", head="multiple-choice")
    make_checkpoint(folder / "answer", head="question-answering")
    make_checkpoint(folder / "mask", head="masked-lm")
    return folder


def test_every_task_counts_its_comparisons(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = [
        TokenClassification(model=str(models / "token")),
        TextClassification(model=str(models / "one"), name="one"),
        TextClassification(model=str(models / "many"), name="many"),
        TextClassification(model=str(models / "number"), name="number"),
        MultipleChoice(model=str(models / "choice"), choices="endings"),
        QuestionAnswering(model=str(models / "answer"), questions=["Who?", "Where?"]),
        FillMask(model=str(models / "mask")),
        Embeddings(model=str(models / "one")),
    ]
    texts = [f"{text} [MASK] and [MASK]" for text in random_texts(40, 5, words=(3, 30))]
    endings = [["one", "two", "three"][: 2 + i % 2] for i in range(40)]
    table = rows(texts, endings=endings).append_column(s.ROW, pa.array(range(40)))
    table = TokenizeUnit(tasks)(table.append_column(s.UNIT, pa.repeat("000000-0123", 40)))
    for kernel, flips in (("exact", False), ("wrong", True)):
        if kernel == "wrong":  # attention with another temperature: a bug that only the reference reveals

            def hot(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, pack: object) -> torch.Tensor:
                return _KERNELS["eager"](q * 0.8, k, v, pack)

            monkeypatch.setitem(_KERNELS, "sdpa", hot)
        predict = PredictUnit(tasks, ComputeSpec(dtype="float32", attention="sdpa", parity=1.0))
        parity = json.loads(predict(table)[s.PARITY][0].as_py())
        assert set(parity) == {task.name for task in tasks}
        assert all(each["rows"] == 40 for each in parity.values())
        assert [parity[name]["positions"] for name in ("one", "many", "number", "choice", "answers", "masks", "embedding")] == [
            40, 40, 40, 40, 80, 80, 40,
        ]  # fmt: skip
        deciding = {name: each["flips"] > 0 for name, each in parity.items() if name not in ("number", "embedding")}
        assert set(deciding.values()) == {flips}, parity
        assert all((each["difference"] > 0.01) == flips for each in parity.values())
        assert parity["number"]["flips"] == parity["embedding"]["flips"] == 0


@given(st.floats(0, 1), st.integers(1, 400), st.data())
def test_the_sample_does_not_depend_on_the_other_rows_of_a_table(share: float, count: int, data: st.DataObject) -> None:
    reference = Reference.__new__(Reference)
    reference.share = share
    names = {s.ROW: pa.array(range(count)), s.UNIT: pa.repeat("000001-0123456789abcdef", count)}
    all_of_them = reference._sampled(pa.table(names))
    pick = data.draw(st.lists(st.integers(0, count - 1), min_size=1, unique=True))
    assert (reference._sampled(pa.table(names).take(pick)) == all_of_them[pick]).all()
    assert share < 1 or all_of_them.all()


def test_the_sample_has_the_requested_size_and_differs_between_units() -> None:
    reference = Reference.__new__(Reference)
    reference.share = 0.01
    sampled = [
        reference._sampled(pa.table({s.ROW: np.arange(50_000), s.UNIT: pa.repeat(f"{unit:06d}", 50_000)}))
        for unit in range(4)
    ]
    for each in sampled:
        assert 400 < each.sum() < 600
    assert (sampled[0] & sampled[1]).sum() < 30


COMPARED = st.fixed_dictionaries(
    {name: st.integers(0, 99) for name in ("rows", "positions", "flips")} | {"difference": st.floats(0, 9)}
)


@given(*[st.dictionaries(st.sampled_from("abc"), COMPARED)] * 3)
def test_comparisons_are_summed_in_any_order(a: dict, b: dict, c: dict) -> None:
    assert add_parity(add_parity(a, b), c) == add_parity(a, add_parity(b, c)) == add_parity(add_parity(c, a), b)
    assert add_parity(a, {}) == add_parity({}, a) == a

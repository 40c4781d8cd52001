"""compat hf equals the Transformers pipeline: the same labels and spans, and scores within the tolerance."""

import warnings
from pathlib import Path

import pytest
import torch
import transformers

from distilray.operators.tasks import TokenClassification
from tests.operators.harness import answers
from tests.support import HARD_TEXTS, IOB2, make_checkpoint, random_texts

BIOES = ("O", *(f"{prefix}-{kind}" for kind in ("PER", "LOC") for prefix in "BIES"))
DASHES = ("O", "B-DATE-TIME", "I-DATE-TIME", "DATE-TIME", "B-O", "X-Y-Z", "PLAIN")
STRATEGIES = ("none", "simple", "first", "average", "max")
SCORE_GATE = 2e-5


def entities(folder: Path, texts: list[str], **options: object) -> list[list[dict]]:
    """Return the entities that the operators find."""
    return answers(TokenClassification(model=str(folder), compat="hf", **options), texts)["entities"].to_pylist()


def hf_entities(folder: Path, texts: list[str], strategy: str, stride: int | None = None) -> list[list[dict]]:
    """Return the entities of Transformers, with its "entity" or "entity_group" as label."""
    options = {} if stride is None else {"stride": stride}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ner = transformers.pipeline(
            "token-classification",
            str(folder),
            aggregation_strategy=strategy,
            dtype=torch.float32,
            device="cpu",
            **options,
        )
        outputs = [ner(text) for text in texts]
    return [
        [{**entity, "label": entity.get("entity", entity.get("entity_group"))} for entity in answer]
        for answer in outputs
    ]


def assert_same(actual: list[list[dict]], expected: list[list[dict]], texts: list[str]) -> None:
    for text, row, expected_row in zip(texts, actual, expected, strict=True):
        spans = [(e["start"], e["end"], e["label"]) for e in row]
        assert spans == [(e["start"], e["end"], e["label"]) for e in expected_row], text
        assert [e["score"] for e in row] == pytest.approx([e["score"] for e in expected_row], abs=SCORE_GATE)
        assert [e["text"] for e in row] == [text[start:end] for start, end, _ in spans]


@pytest.mark.parametrize("labels", [IOB2, BIOES, DASHES], ids=["iob2", "bioes", "dashes"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_equals_the_pipeline(tmp_path: Path, strategy: str, labels: tuple[str, ...]) -> None:
    folder = make_checkpoint(tmp_path / "model", labels, seed=len(labels))
    texts = [*HARD_TEXTS, *random_texts(80, seed=1)]
    assert_same(entities(folder, texts, aggregation=strategy), hf_entities(folder, texts, strategy), texts)


@pytest.mark.parametrize("lower", [True, False], ids=["uncased", "cased"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_long_texts_are_truncated_as_by_the_pipeline(tmp_path: Path, strategy: str, lower: bool) -> None:
    folder = make_checkpoint(tmp_path / "model", positions=40, lower=lower)
    texts = [*HARD_TEXTS, *random_texts(30, seed=2, words=(1, 120))]
    assert_same(entities(folder, texts, aggregation=strategy), hf_entities(folder, texts, strategy), texts)


@pytest.mark.parametrize("overlap", [0, 7, 30])
@pytest.mark.parametrize("strategy", STRATEGIES[1:])
def test_windows_are_merged_as_by_the_pipeline(tmp_path: Path, strategy: str, overlap: int) -> None:
    folder = make_checkpoint(tmp_path / "model", positions=40)
    texts = [*HARD_TEXTS, *random_texts(30, seed=3, words=(1, 150))]
    actual = entities(folder, texts, aggregation=strategy, overlap=overlap)
    assert_same(actual, hf_entities(folder, texts, strategy, stride=overlap), texts)

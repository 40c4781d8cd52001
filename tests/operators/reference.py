"""What the tests of the tasks are run on: texts of every kind, the words of the corpus, and Transformers' own pipelines."""

import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as ds
import pytest
import torch
import transformers

from tests.support import HARD_TEXTS, random_texts

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SCORE_GATE = 2e-5


@cache
def _documents() -> list[list[str]]:
    """The words of each text of the example's corpus."""
    texts = ds.dataset(EXAMPLES / "corpus", partitioning="hive").to_table(columns=["text"])["text"].to_pylist()
    return [text.split(" ") for text in texts]


def passage(number: int, words: int) -> str:
    """So many words of the corpus; another number, another place."""
    source = _documents()[number % len(_documents())]
    first = (number * 131) % max(len(source) - words, 1)
    return " ".join(source[first : first + words])


def passages(count: int, longest: int = 70) -> list[str]:
    """Passages of 1 to `longest` words."""
    return [passage(i, 1 + (i * 7) % longest) for i in range(count)]


def mixed_texts(longest: int = 60) -> list[str]:
    """217 texts: hard ones, random ones, and passages of 1 to `longest` words."""
    return [*HARD_TEXTS, *random_texts(80, seed=longest, words=(1, longest)), *passages(120, longest)]


@cache
def corpus_vocabulary() -> tuple[str, ...]:
    """With the corpus's own words, so that they are no [UNK]."""
    return tuple((EXAMPLES / "models/ner/vocab.txt").read_text(encoding="utf-8").splitlines())


def hf_pipeline(task: str, folder: Path, **options: Any) -> transformers.Pipeline:
    """In float32, on the CPU."""
    return transformers.pipeline(task, str(folder), dtype=torch.float32, device="cpu", **options)


def hf_answers(task: str, folder: Path, inputs: Sequence[Any], batch_size: int = 16, **options: Any) -> list[Any]:
    """What the pipeline says of each input; they are batched by length, to save padding."""
    order = sorted(range(len(inputs)), key=lambda i: len(str(inputs[i])))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = hf_pipeline(task, folder)([inputs[i] for i in order], batch_size=batch_size, **options)
    return [answer for _, answer in sorted(zip(order, found, strict=True), key=lambda each: each[0])]


def assert_ranked(
    ours: Sequence[Sequence[dict[str, Any]]], theirs: Sequence[Sequence[dict[str, Any]]], gate: float = SCORE_GATE
) -> None:
    """The same labels in the same order, their scores within the gate."""
    assert len(ours) == len(theirs)
    for mine, wanted in zip(ours, theirs, strict=True):
        assert [each["label"] for each in mine] == [each["label"] for each in wanted]
        assert [each["score"] for each in mine] == pytest.approx([each["score"] for each in wanted], abs=gate)


def spread(scores: Sequence[float]) -> float:
    """The gate for numbers that are no probabilities, in units of their standard deviation."""
    return SCORE_GATE * max(1.0, float(np.std(scores)))

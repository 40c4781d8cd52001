"""Texts and a vocabulary for the tests of the tasks, and the reference answers of the pipelines of Transformers."""

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
    """Return the words of each text of the corpus of the examples."""
    texts = ds.dataset(EXAMPLES / "corpus", partitioning="hive").to_table(columns=["text"])["text"].to_pylist()
    return [text.split(" ") for text in texts]


def passage(number: int, words: int) -> str:
    """Return so many consecutive words of the corpus. number: it selects the text and the first word."""
    source = _documents()[number % len(_documents())]
    first = (number * 131) % max(len(source) - words, 1)
    return " ".join(source[first : first + words])


def passages(count: int, longest: int = 70) -> list[str]:
    """Return passages of 1 to `longest` words."""
    return [passage(i, 1 + (i * 7) % longest) for i in range(count)]


def mixed_texts(longest: int = 60) -> list[str]:
    """Return 217 texts: hard texts, random texts, and passages of 1 to `longest` words."""
    return [*HARD_TEXTS, *random_texts(80, seed=longest, words=(1, longest)), *passages(120, longest)]


@cache
def corpus_vocabulary() -> tuple[str, ...]:
    """Return a vocabulary with the words of the corpus, so that they do not become [UNK]."""
    return tuple((EXAMPLES / "models/ner/vocab.txt").read_text(encoding="utf-8").splitlines())


def hf_pipeline(task: str, folder: Path, **options: Any) -> transformers.Pipeline:
    """Make a pipeline of Transformers that computes in float32 on the CPU."""
    return transformers.pipeline(task, str(folder), dtype=torch.float32, device="cpu", **options)


def hf_answers(task: str, folder: Path, inputs: Sequence[Any], batch_size: int = 16, **options: Any) -> list[Any]:
    """Return the answer of the pipeline to each input. Inputs are sorted by length to reduce padding."""
    order = sorted(range(len(inputs)), key=lambda i: len(str(inputs[i])))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sorted_answers = hf_pipeline(task, folder)([inputs[i] for i in order], batch_size=batch_size, **options)
    return [answer for _, answer in sorted(zip(order, sorted_answers, strict=True), key=lambda pair: pair[0])]


def assert_ranked(
    actual: Sequence[Sequence[dict[str, Any]]],
    expected: Sequence[Sequence[dict[str, Any]]],
    tolerance: float = SCORE_GATE,
) -> None:
    """Assert the same labels in the same order, and scores within the tolerance."""
    assert len(actual) == len(expected)
    for row, expected_row in zip(actual, expected, strict=True):
        assert [entry["label"] for entry in row] == [entry["label"] for entry in expected_row]
        scores = [entry["score"] for entry in expected_row]
        assert [entry["score"] for entry in row] == pytest.approx(scores, abs=tolerance)


def scaled_tolerance(scores: Sequence[float]) -> float:
    """Return the tolerance for scores that are not probabilities, in proportion to their standard deviation."""
    return SCORE_GATE * max(1.0, float(np.std(scores)))

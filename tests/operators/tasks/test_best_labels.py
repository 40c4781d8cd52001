"""Token classification transfers only the values that decoding needs, and the answers equal those of all logits."""

from pathlib import Path

import numpy as np
import pytest
import torch

from distilray.model.checkpoint.checkpoint import Checkpoint
from distilray.model.decode.scores import softmax
from distilray.operators.rows.batch import read_batch
from distilray.operators.tasks import TokenClassification
from distilray.operators.tasks.token_classification import _best
from distilray.operators.tokenize import TokenizeUnit, group_tokenizers
from tests.operators.harness import rows
from tests.operators.reference import mixed_texts

RULES = [
    *({"aggregation": aggregation} for aggregation in ("none", "simple", "first", "max")),
    {"aggregation": "max", "compat": "hf"},
]


@pytest.mark.parametrize("labels", [1, 2, 9])
def test_the_best_label_is_the_first_of_equals(labels: int) -> None:
    logits = np.random.default_rng(labels).integers(-3, 3, (500, labels)).astype(np.float32)
    label, score = (tensor.numpy() for tensor in _best(torch.from_numpy(logits), np.arange(500)))
    probabilities = softmax(logits)
    assert np.array_equal(label, probabilities.argmax(1))
    assert np.allclose(score, probabilities.max(1), rtol=1e-6, atol=0)
    assert [len(tensor) for tensor in _best(torch.zeros(0, labels), np.zeros(0))] == [0, 0]


@pytest.mark.parametrize("options", RULES, ids=str)
def test_answers_equal_those_of_all_logits(checkpoint: Path, options: dict) -> None:
    task = TokenClassification(model=str(checkpoint), **options)
    opened = Checkpoint(str(checkpoint))
    table = TokenizeUnit([task])(rows(mixed_texts(30)))
    batch = read_batch(table, 0, group_tokenizers([task], [opened])[0].tokenizer)
    request = task.request(batch, opened.config)
    count = int(request.head_request.positions.length.sum())
    logits = np.random.default_rng(0).normal(0, 2, (count, len(opened.config.labels))).astype(np.float32)
    best = tuple(tensor.numpy() for tensor in request.head_request.reduce(torch.from_numpy(logits), np.arange(count)))
    actual, expected = (request.answer(outputs).column.to_pylist() for outputs in (best, (logits,)))
    assert sum(map(len, expected)) > 500
    for answer, expected_answer in zip(actual, expected, strict=True):
        assert [{**span, "score": None} for span in answer] == [{**span, "score": None} for span in expected_answer]
        assert [span["score"] for span in answer] == pytest.approx(
            [span["score"] for span in expected_answer], rel=1e-6
        )


@pytest.mark.parametrize("options", [{"aggregation": "average"}, {"viterbi": True}], ids=str)
def test_all_logits_are_kept_if_decoding_needs_them(checkpoint: Path, options: dict) -> None:
    task = TokenClassification(model=str(checkpoint), **options)
    opened = Checkpoint(str(checkpoint))
    table = TokenizeUnit([task])(rows(["Lincoln met Mary."]))
    batch = read_batch(table, 0, group_tokenizers([task], [opened])[0].tokenizer)
    assert task.request(batch, opened.config).head_request.reduce is None

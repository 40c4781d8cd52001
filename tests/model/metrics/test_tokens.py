"""Tests of perplexity, of top-k accuracy and of the accuracy of choices, against PyTorch and scikit-learn."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import accuracy_score, top_k_accuracy_score

from distilray.model.errors import MetricError
from distilray.model.metrics import choices, tokens
from distilray.model.metrics.losses import cross_entropy
from tests.model.metrics.batches import Cuts, in_batches


def counts(logits: np.ndarray, gold: np.ndarray) -> dict:
    return tokens.count(cross_entropy(logits, gold), tokens.ranks(logits, gold))


@given(st.integers(1, 12), st.integers(1, 30), st.integers(0, 9), Cuts)
def test_mask_metrics_equal_pytorch_and_scikit_learn(width: int, rows: int, seed: int, cuts: list[int]) -> None:
    random = np.random.default_rng(seed)
    logits = random.normal(size=(rows, width)).astype(np.float32) * 4
    gold = np.where(random.random(rows) < 0.2, -100, random.integers(0, width, rows))
    actual = tokens.figures(in_batches(rows, cuts, lambda b: counts(logits[b], gold[b])))
    assert actual == tokens.figures(counts(logits, gold))
    kept = gold != -100
    assert actual["tokens"] == kept.sum()
    if not kept.any():
        assert set(actual.values()) == {0, None}
        return
    loss = torch.nn.functional.cross_entropy(torch.from_numpy(logits).double(), torch.from_numpy(gold)).item()
    assert actual["loss"] == pytest.approx(loss, rel=1e-12)
    assert actual["perplexity"] == pytest.approx(math.exp(loss), rel=1e-12)
    assert actual["top1"] == pytest.approx(accuracy_score(gold[kept], logits[kept].argmax(1)))
    if width > 5:
        reference = top_k_accuracy_score(gold[kept], logits[kept], k=5, labels=range(width))
        assert actual["top5"] == pytest.approx(reference)
    else:
        assert actual["top5"] == 1


def test_the_lower_id_ranks_first_among_equal_logits() -> None:
    logits = np.array([[2, 2, 1, 2]] * 4, dtype=np.float32)
    assert tokens.ranks(logits, np.arange(4)).tolist() == [0, 1, 3, 2]
    assert tokens.ranks(logits, np.array([-100, 2, -100, 0])).tolist() == [3, 0]


@given(hnp.arrays(np.int8, st.tuples(st.just(9), st.integers(1, 12)), elements=st.integers(0, 3)))
def test_ranks_equal_a_stable_sort(logits: np.ndarray) -> None:
    gold = np.arange(9) % logits.shape[1]
    order = np.argsort(-logits, axis=1, kind="stable")
    assert tokens.ranks(logits, gold).tolist() == [row.tolist().index(g) for row, g in zip(order, gold, strict=True)]


def test_a_perplexity_beyond_float64_is_none_and_the_loss_is_given() -> None:
    logits = np.array([[0, 800]], dtype=np.float32)
    got = tokens.figures(counts(logits, np.array([0])))
    assert (got["perplexity"], got["loss"]) == (None, 800)
    assert tokens.figures(counts(logits, np.array([1])))["perplexity"] == 1


Choices = st.lists(st.integers(1, 5).flatmap(lambda n: st.tuples(st.just(n), *[st.integers(0, n - 1)] * 2)), min_size=1)


@given(Choices, Cuts)
def test_the_accuracy_of_choices_equals_scikit_learn(rows: list[tuple[int, int, int]], cuts: list[int]) -> None:
    sizes, gold, predicted = np.array(rows).T
    actual = choices.figures(in_batches(len(rows), cuts, lambda b: choices.count(gold[b], predicted[b], sizes[b])))
    assert actual == {"rows": len(rows), "accuracy": pytest.approx(accuracy_score(gold, predicted))}


def test_choices_without_gold_are_ignored_and_invalid_choices_are_an_error() -> None:
    got = choices.figures(choices.count(np.array([-100, 2]), np.array([0, 2]), np.array([2, 3])))
    assert got == {"rows": 1, "accuracy": 1}
    assert choices.figures({}) == {"rows": 0, "accuracy": None}
    with pytest.raises(MetricError, match="gold of row 0 is 2, expected 0 to 1"):
        choices.count(np.array([2, 2]), np.array([0, 2]), np.array([2, 3]))
    with pytest.raises(MetricError, match="the prediction of row 1 is 3"):
        choices.count(np.array([0, 2]), np.array([0, 3]), np.array([2, 3]))

"""Tests of scores and ranks of logits, against torch in float64 and against loops."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from distilray.model.arrays import offsets_of
from distilray.model.decode.scores import apply, ragged_softmax, ranked, ranked_ragged, sigmoid, softmax

CLOSE = 1e-6
finite = st.floats(-1e4, 1e4, width=32)
tables = hnp.arrays(np.float32, st.tuples(st.integers(0, 9), st.integers(1, 7)), elements=finite)
few = st.sampled_from(np.array([-1.5, 0, 0.25, 0.5], dtype=np.float32).tolist())  # so that some tie
groups = st.lists(st.lists(few, max_size=6), max_size=6)
limits = st.none() | st.integers(1, 8)


def flat(parts: list[list[float]]) -> tuple[np.ndarray, np.ndarray]:
    """Concatenate the groups. Return all values and the size of each group."""
    values = np.array([value for part in parts for value in part], dtype=np.float32)
    return values, np.array([len(part) for part in parts], dtype=np.int64)


@given(tables)
def test_softmax_equals_torch(logits: np.ndarray) -> None:
    before = logits.copy()
    scores = softmax(logits)
    assert scores.dtype == np.float32
    assert np.array_equal(logits, before)
    assert scores == pytest.approx(torch.from_numpy(logits).double().softmax(-1).numpy(), abs=CLOSE)


@given(tables)
def test_sigmoid_equals_torch(logits: np.ndarray) -> None:
    scores = sigmoid(logits)
    assert scores.dtype == np.float32
    assert scores == pytest.approx(torch.from_numpy(logits).double().sigmoid().numpy(), abs=CLOSE)


@pytest.mark.filterwarnings("error")
def test_the_largest_logits_do_not_overflow() -> None:
    ends = np.array([[-1e38, 0, 1e38]], dtype=np.float32)
    assert softmax(ends).tolist() == [[0, 0, 1]]
    assert sigmoid(ends).tolist() == [[0, 0.5, 1]]
    assert ragged_softmax(ends[0], np.array([1, 2])).tolist() == [1, 0, 1]


@given(tables)
def test_apply_selects_a_function_by_name(logits: np.ndarray) -> None:
    assert np.array_equal(apply("softmax", logits), softmax(logits))
    assert np.array_equal(apply("sigmoid", logits), sigmoid(logits))
    assert np.array_equal(apply("none", logits), logits)
    assert apply("none", logits.astype(np.float64)).dtype == np.float32


@given(st.lists(st.lists(finite, max_size=6), max_size=6))
def test_ragged_softmax_is_the_softmax_of_each_group(parts: list[list[float]]) -> None:
    logits, counts = flat(parts)
    scores = ragged_softmax(logits, counts)
    alone = [softmax(np.array([part], dtype=np.float32))[0] for part in parts if part]
    assert scores.dtype == np.float32
    assert scores == pytest.approx(np.concatenate([*alone, []]), abs=CLOSE)


@given(hnp.arrays(np.float32, st.tuples(st.integers(0, 5), st.integers(1, 7)), elements=few), limits)
def test_ranked_sorts_by_score_and_keeps_the_order_of_ties(scores: np.ndarray, most: int | None) -> None:
    expected = [sorted(range(len(row)), key=lambda i: -row[i])[:most] for row in scores.tolist()]
    assert ranked(scores, most).tolist() == expected


@given(groups, limits)
def test_ranked_ragged_sorts_each_group_and_keeps_the_order_of_ties(parts: list[list[float]], most: int | None) -> None:
    scores, counts = flat(parts)
    kept, of_each = ranked_ragged(scores, counts, most)
    expected = []
    for first, part in zip(offsets_of(counts).tolist(), parts, strict=False):
        expected += [first + i for i in sorted(range(len(part)), key=lambda i: -part[i])[:most]]
    assert kept.tolist() == expected
    assert of_each.tolist() == [min(len(part), most or len(part)) for part in parts]

"""Tests of the regression metrics against scikit-learn, SciPy and NumPy, also on values far from zero."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr
from sklearn import metrics as sk

from distilray.model.errors import MetricError
from distilray.model.metrics.regression import count, figures
from tests.model.metrics.batches import Cuts, in_batches

NAME = ("score",)


def column(values: Any) -> np.ndarray:
    return np.asarray(values, dtype=np.float64)[:, None]


@pytest.mark.parametrize(("mean", "std"), [(0, 1), (1e4, 1e-2), (-1e6, 1e-3), (1e-20, 1e-22), (3e8, 1e-2)])
@pytest.mark.parametrize("seed", [0, 1])
def test_figures_far_from_zero_equal_the_reference(mean: float, std: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    gold = mean + std * random.normal(size=500)
    predicted = gold + 0.7 * std * random.normal(size=500)
    actual = figures(in_batches(500, [3, 7, 7, 400], lambda b: count(column(gold[b]), column(predicted[b]), NAME)))
    assert actual["mse"] == pytest.approx(sk.mean_squared_error(gold, predicted), rel=1e-9)
    assert actual["mae"] == pytest.approx(sk.mean_absolute_error(gold, predicted), rel=1e-9)
    assert actual["r2"] == pytest.approx(sk.r2_score(gold, predicted), rel=1e-9)
    assert actual["pearson"] == pytest.approx(pearsonr(gold, predicted).statistic, rel=1e-9)
    assert actual["pearson"] == pytest.approx(np.corrcoef(gold, predicted)[0, 1], rel=1e-9)
    assert actual["labels"] == {"score": {"rows": 500, **{key: actual[key] for key in ("mse", "mae", "r2", "pearson")}}}


def test_plain_float64_sums_are_not_exact_enough() -> None:
    """The reason for exact sums: at 1e4 +- 1e-2 the error of the textbook formula is far larger than the gate."""
    random = np.random.default_rng(0)
    gold = 1e4 + 1e-2 * random.normal(size=500)
    textbook = (gold @ gold - gold.sum() ** 2 / 500) / 500
    assert abs(textbook / gold.var() - 1) > 1e-6


Numbers = st.floats(-1e12, 1e12, allow_subnormal=True)


@given(st.lists(st.tuples(Numbers, Numbers), max_size=40), Cuts)
def test_batches_do_not_change_the_figures(rows: list[tuple[float, float]], cuts: list[int]) -> None:
    gold, predicted = np.array(rows, dtype=np.float64).reshape(-1, 2).T
    actual = figures(in_batches(len(rows), cuts, lambda b: count(column(gold[b]), column(predicted[b]), NAME)))
    assert actual == figures(count(column(gold), column(predicted), NAME))
    assert actual["pearson"] is None or -1 <= actual["pearson"] <= 1


def test_several_outputs_are_averaged() -> None:
    random = np.random.default_rng(3)
    gold, noise = random.normal(size=(2, 50, 3)) * [1, 10, 100]
    predicted = (gold + noise).astype(np.float32)
    actual = figures(count(gold, predicted, ("x", "y", "z")))
    assert actual["mse"] == pytest.approx(sk.mean_squared_error(gold, predicted), rel=1e-9)
    assert actual["r2"] == pytest.approx(sk.r2_score(gold, predicted), rel=1e-9)
    assert actual["pearson"] == pytest.approx(
        np.mean([pearsonr(gold[:, k], predicted[:, k])[0] for k in range(3)]), rel=1e-9
    )
    assert actual["labels"]["y"]["mae"] == pytest.approx(np.abs(gold - predicted)[:, 1].mean(), rel=1e-9)


@pytest.mark.parametrize(
    ("gold", "predicted", "r2", "pearson"),
    [
        ([1, 2, 3], [3, 2, 1], -3, -1),
        ([0.1, 0.2, 0.3], [0.1, 0.2, 0.3], 1, 1),
        ([5, 5], [5, 5], 1, None),
        ([0.25] * 3, [0.25, 0.25, 0.5], 0, None),
        ([1, 2], [7, 7], -121, None),
        ([0, 3e-308], [0, 1], None, 1),  # r2 is about -1e615
        ([4], [4], None, None),
        ([], [], None, None),
    ],
)
def test_figures_equal_hand_computed_values(
    gold: list[float], predicted: list[float], r2: float | None, pearson: float | None
) -> None:
    actual = figures(count(column(gold), column(predicted), NAME))
    assert (actual["r2"], actual["pearson"]) == (r2, pearson)
    if r2 is not None:
        assert r2 == pytest.approx(sk.r2_score(gold, predicted))


def test_values_that_do_not_fit_are_an_error() -> None:
    with pytest.raises(MetricError, match="not finite"):
        count(column([1, 2]), column([1, math.nan]), NAME)
    with pytest.raises(MetricError, match="one shape"):
        count(np.zeros(3), np.zeros(3), NAME)

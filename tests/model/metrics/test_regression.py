"""Regression against scikit-learn, SciPy and NumPy, also far from zero."""

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
def test_figures_far_from_zero(mean: float, std: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    gold = mean + std * random.normal(size=500)
    found = gold + 0.7 * std * random.normal(size=500)
    ours = figures(in_batches(500, [3, 7, 7, 400], lambda b: count(column(gold[b]), column(found[b]), NAME)))
    assert ours["mse"] == pytest.approx(sk.mean_squared_error(gold, found), rel=1e-9)
    assert ours["mae"] == pytest.approx(sk.mean_absolute_error(gold, found), rel=1e-9)
    assert ours["r2"] == pytest.approx(sk.r2_score(gold, found), rel=1e-9)
    assert ours["pearson"] == pytest.approx(pearsonr(gold, found).statistic, rel=1e-9)
    assert ours["pearson"] == pytest.approx(np.corrcoef(gold, found)[0, 1], rel=1e-9)
    assert ours["labels"] == {"score": {"rows": 500, **{key: ours[key] for key in ("mse", "mae", "r2", "pearson")}}}


def test_plain_float64_sums_would_not_do() -> None:
    """What the exact sums are for: the textbook formula is off by far more than the gate at 1e4 +- 1e-2."""
    random = np.random.default_rng(0)
    gold = 1e4 + 1e-2 * random.normal(size=500)
    textbook = (gold @ gold - gold.sum() ** 2 / 500) / 500
    assert abs(textbook / gold.var() - 1) > 1e-6


Numbers = st.floats(-1e12, 1e12, allow_subnormal=True)


@given(st.lists(st.tuples(Numbers, Numbers), max_size=40), Cuts)
def test_batches_change_nothing(rows: list[tuple[float, float]], cuts: list[int]) -> None:
    gold, found = np.array(rows, dtype=np.float64).reshape(-1, 2).T
    ours = figures(in_batches(len(rows), cuts, lambda b: count(column(gold[b]), column(found[b]), NAME)))
    assert ours == figures(count(column(gold), column(found), NAME))
    assert ours["pearson"] is None or -1 <= ours["pearson"] <= 1


def test_several_outputs_are_averaged() -> None:
    random = np.random.default_rng(3)
    gold, noise = random.normal(size=(2, 50, 3)) * [1, 10, 100]
    found = (gold + noise).astype(np.float32)
    ours = figures(count(gold, found, ("x", "y", "z")))
    assert ours["mse"] == pytest.approx(sk.mean_squared_error(gold, found), rel=1e-9)
    assert ours["r2"] == pytest.approx(sk.r2_score(gold, found), rel=1e-9)
    assert ours["pearson"] == pytest.approx(np.mean([pearsonr(gold[:, k], found[:, k])[0] for k in range(3)]), rel=1e-9)
    assert ours["labels"]["y"]["mae"] == pytest.approx(np.abs(gold - found)[:, 1].mean(), rel=1e-9)


@pytest.mark.parametrize(
    ("gold", "found", "r2", "pearson"),
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
def test_by_hand(gold: list[float], found: list[float], r2: float | None, pearson: float | None) -> None:
    ours = figures(count(column(gold), column(found), NAME))
    assert (ours["r2"], ours["pearson"]) == (r2, pearson)
    if r2 is not None:
        assert r2 == pytest.approx(sk.r2_score(gold, found))


def test_values_that_do_not_fit_are_errors() -> None:
    with pytest.raises(MetricError, match="not finite"):
        count(column([1, 2]), column([1, math.nan]), NAME)
    with pytest.raises(MetricError, match="one shape"):
        count(np.zeros(3), np.zeros(3), NAME)

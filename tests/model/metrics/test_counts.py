"""Tests of the merge of counts and of exact sums."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from distilray.model.errors import MetricError
from distilray.model.metrics.counts import merge
from distilray.model.metrics.exact import exact_dot, exact_sum, exact_value
from tests.model.metrics.batches import Cuts, in_batches

Finite = st.floats(allow_nan=False, allow_infinity=False)
Values = hnp.arrays(np.float64, st.integers(0, 40), elements=Finite)


def test_merge_adds_numbers_at_every_depth() -> None:
    a = {"rows": 1, "labels": {"x": {"hits": 2}}, "sums": [1.5, 2]}
    b = {"rows": 10, "labels": {"x": {"hits": 5}, "y": {"hits": 1}}, "sums": [0.5, 3]}
    assert merge(a, b) == {"rows": 11, "labels": {"x": {"hits": 7}, "y": {"hits": 1}}, "sums": [2.0, 5]}
    assert merge({}, a) == merge(a, {}) == a


@pytest.mark.parametrize(("a", "b"), [({"x": 1}, {"x": {}}), ([1], [1, 2]), ("a", "b"), ({"x": None}, {"x": 1})])
def test_merge_rejects_counts_of_different_structure(a: object, b: object) -> None:
    with pytest.raises(MetricError, match="cannot be merged"):
        merge(a, b)


@given(Values)
def test_an_exact_sum_equals_the_sum_of_fractions(values: np.ndarray) -> None:
    assert exact_value(exact_sum(values)) == sum(map(Fraction, values.tolist()), Fraction(0))


@given(st.integers(0, 20).flatmap(lambda n: st.tuples(*[hnp.arrays(np.float64, n, elements=Finite)] * 2)))
def test_an_exact_dot_product_equals_that_of_fractions(pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = (list(map(Fraction, side.tolist())) for side in pair)
    assert exact_value(exact_dot(*pair)) == sum((x * y for x, y in zip(a, b, strict=True)), Fraction(0))


@given(Values, Cuts)
def test_batches_and_order_do_not_change_an_exact_sum(values: np.ndarray, cuts: list[int]) -> None:
    parts = in_batches(len(values), cuts, lambda batch: {"sum": exact_sum(values[::-1][batch])})
    assert exact_value(parts["sum"]) == exact_value(exact_sum(values))


def test_a_huge_value_does_not_absorb_small_values() -> None:
    values = np.full(1_000_001, 0.1, dtype=np.float32)
    values[7] = 1e30
    assert float(exact_value(exact_sum(values)) - Fraction(float(values[7]))) == 1_000_000 * float(np.float32(0.1))
    assert float(exact_value(exact_sum(values))) == math.fsum(values.tolist())


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_an_error(bad: float) -> None:
    with pytest.raises(MetricError, match=r"1 of 3 values are not finite \(the first: value 2 is"):
        exact_sum(np.array([0, 1, bad]))

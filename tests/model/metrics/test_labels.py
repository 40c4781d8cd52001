"""Tests of the metrics of one label per row and of several labels per row, against scikit-learn."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as sk

from distilray.model.errors import MetricError
from distilray.model.metrics import labels, multilabel
from tests.model.metrics.batches import Cuts, in_batches

NAMES = ("b", "a", "d", "c")
KEYS = ("precision", "recall", "f1", "support")


def sk_scores(gold: Any, predicted: Any, average: str | None) -> list[Any]:
    scores = list(sk.precision_recall_fscore_support(gold, predicted, average=average, zero_division=0))
    return scores[:3] if average else scores


def values(row: dict[str, Any], keys: tuple[str, ...] = KEYS) -> list[float]:
    return [row[key] for key in keys]


Rows = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40)


@given(Rows, Cuts)
def test_single_label_metrics_equal_scikit_learn(rows: list[tuple[int, int]], cuts: list[int]) -> None:
    gold, predicted = np.array(rows).T
    actual = labels.figures(
        in_batches(len(rows), cuts, lambda batch: labels.count(gold[batch], predicted[batch], NAMES))
    )
    assert actual == labels.figures(labels.count(gold, predicted, NAMES))
    gold, predicted = np.array(NAMES)[gold], np.array(NAMES)[predicted]
    assert actual["rows"] == len(rows)
    assert actual["accuracy"] == pytest.approx(sk.accuracy_score(gold, predicted), rel=1e-12)
    assert actual["mcc"] == pytest.approx(sk.matthews_corrcoef(gold, predicted), rel=1e-12, abs=1e-15)
    assert list(actual["labels"]) == sorted({*gold, *predicted})
    by_label = np.array(sk_scores(gold, predicted, None)).T
    np.testing.assert_allclose([values(row) for row in actual["labels"].values()], by_label, rtol=1e-12)
    for average in ("micro", "macro", "weighted"):
        assert values(actual[average], KEYS[:3]) == pytest.approx(sk_scores(gold, predicted, average), rel=1e-12)
    matrix = [[actual["confusion"].get(g, {}).get(f, 0) for f in actual["labels"]] for g in actual["labels"]]
    assert matrix == sk.confusion_matrix(gold, predicted).tolist()


def test_single_label_metrics_equal_hand_computed_values() -> None:
    got = labels.figures(labels.count(np.array([0, 0, 0, 1]), np.array([0, 0, 2, 0]), ("x", "y", "z")))
    assert (got["rows"], got["accuracy"]) == (4, 0.5)
    assert got["labels"]["x"] == {"precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3, "support": 3}
    assert got["macro"]["f1"] == pytest.approx(2 / 9)  # the average includes z, which is only predicted
    assert got["confusion"] == {"x": {"x": 2, "z": 1}, "y": {"x": 1}}


def test_narrow_integers_do_not_overflow() -> None:
    names = [f"{i:02}" for i in range(99)]
    every = np.arange(99, dtype=np.int8)
    assert labels.count(every, every[::-1], names) == {names[i]: {names[98 - i]: 1} for i in range(99)}


def test_rows_without_gold_are_not_counted() -> None:
    gold, predicted = np.array([-100, 1, -100]), np.array([0, 1, 3])
    assert labels.count(gold, predicted, NAMES) == {"a": {"a": 1}}
    nothing = labels.figures(labels.count(gold[:1], predicted[:1], NAMES))
    assert (nothing["rows"], nothing["accuracy"], nothing["mcc"], nothing["labels"]) == (0, None, 0, {})


@pytest.mark.parametrize(
    ("gold", "predicted", "message"),
    [
        ([0, 4], [0, 0], "gold of row 1 is 4, expected 0 to 3; 1 such rows of 2"),
        ([0, -1], [0, 0], "gold of row 1 is -1"),
        ([0, 0], [0, -100], "the prediction of row 1 is -100"),
        ([0, 0, 0], [0, 0], "expected gold of 2 rows"),
    ],
)
def test_a_label_without_a_name_is_an_error(gold: list[int], predicted: list[int], message: str) -> None:
    with pytest.raises(MetricError, match=message):
        labels.count(np.array(gold), np.array(predicted), NAMES)


Tables = hnp.arrays(np.bool_, st.tuples(st.just(2), st.integers(1, 30), st.just(4)))


@given(Tables, Cuts)
def test_multi_label_metrics_equal_scikit_learn(tables: np.ndarray, cuts: list[int]) -> None:
    gold, predicted = tables
    actual = multilabel.figures(in_batches(len(gold), cuts, lambda b: multilabel.count(gold[b], predicted[b], NAMES)))
    assert actual == multilabel.figures(multilabel.count(gold, predicted, NAMES))
    assert actual["rows"] == len(gold)
    assert actual["subset_accuracy"] == pytest.approx(sk.accuracy_score(gold, predicted), rel=1e-12)
    by_label = np.array(sk_scores(gold, predicted, None)).T
    np.testing.assert_allclose([values(row) for row in actual["labels"].values()], by_label, rtol=1e-12)
    for average in ("micro", "macro", "weighted", "samples"):
        assert values(actual[average], KEYS[:3]) == pytest.approx(sk_scores(gold, predicted, average), rel=1e-12), (
            average
        )


def test_the_macro_average_includes_a_label_that_never_occurs() -> None:
    table = np.array([[True, False], [True, False]])
    got = multilabel.figures(multilabel.count(table, table, ("x", "never")))
    assert got["labels"]["never"] == {"precision": 0, "recall": 0, "f1": 0, "support": 0}
    assert (got["macro"]["f1"], got["micro"]["f1"], got["subset_accuracy"]) == (0.5, 1, 1)


def test_multi_label_metrics_of_no_rows() -> None:
    empty = np.zeros((0, 4), dtype=bool)
    got = multilabel.figures(multilabel.count(empty, empty, NAMES))
    assert (got["rows"], got["subset_accuracy"], got["samples"]["f1"], got["micro"]["f1"]) == (0, None, None, 0)


def test_tables_of_different_shapes_are_an_error() -> None:
    gold = np.zeros((3, 2), dtype=bool)
    with pytest.raises(MetricError, match=r"one shape \[rows, 2\], got \(3, 2\) and \(2, 2\)"):
        multilabel.count(gold, gold[:2], ("x", "y"))
    with pytest.raises(MetricError, match="name of its own"):
        multilabel.count(gold, gold, ("x", "x"))

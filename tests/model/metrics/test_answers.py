"""Tests of SQuAD's exact match and F1 against hand-computed cases and a reference for one answer at a time."""

import re
import string
from collections import Counter
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from distilray.model.errors import MetricError
from distilray.model.metrics.answers import count, figures, normalise, row_scores
from tests.model.metrics.batches import Cuts, in_batches


def golds(rows: list[list[str]]) -> pa.Array:
    return pa.array(rows, pa.list_(pa.string()))


def answers(rows: list[str]) -> pa.Array:
    return pa.array(rows, pa.string())


def reference_words(text: str) -> list[str]:
    kept = "".join(c for c in text.lower() if c not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", kept).split()


def reference_scores(gold: list[str], predicted: str) -> tuple[float, float]:
    golds_words = [reference_words(text) for text in gold if reference_words(text)] or [[]]
    predicted_words = reference_words(predicted)

    def f1(gold_words: list[str]) -> float:
        if not gold_words or not predicted_words:
            return float(gold_words == predicted_words)
        shared = sum((Counter(gold_words) & Counter(predicted_words)).values())
        precision, recall = shared / len(predicted_words), shared / len(gold_words)
        return 2 * precision * recall / (precision + recall) if shared else 0

    return max(float(gold_words == predicted_words) for gold_words in golds_words), max(map(f1, golds_words))


PIECES = [
    "the",
    "The",
    "a",
    "AN",
    "an",
    "cat",
    "cat's",
    "the-cat",
    "Cat",
    "sat",
    "$",
    "...",
    "\u2019",
    "\u2014",
    "a\u0301",
]
PIECES += [
    " ",
    "  ",
    "\n",
    "\r\n",
    "\u3000",
    "\xa0",
    "\x1c",
    "\u2028",
    "\u0130",
    "\u039f\u03a3",
    "\u03a3",
    "\xdf",
    "1.5",
    "_",
]
Text = st.one_of(st.lists(st.sampled_from(PIECES), max_size=6).map("".join), st.text(max_size=8))
Texts = st.lists(st.lists(st.sampled_from(PIECES), max_size=6).map(" ".join) | Text, max_size=3)
Rows = st.lists(st.tuples(Texts, Text), max_size=12)


@given(st.lists(Text, max_size=8))
@example(["\u039f\u03a3", "\u03a3"])  # the next answer must not change a final sigma
@example(["", "\n", "a"])
def test_normalise_equals_the_reference(texts: list[str]) -> None:
    assert normalise(answers(texts)).to_pylist() == [" ".join(reference_words(text)) for text in texts]


@given(Rows, Cuts)
def test_figures_equal_the_reference(rows: list[tuple[list[str], str]], cuts: list[int]) -> None:
    def batch(part: slice) -> dict[str, Any]:
        return count(golds([gold for gold, _ in rows[part]]), answers([predicted for _, predicted in rows[part]]))

    actual = figures(in_batches(len(rows), cuts, batch))
    assert actual == figures(batch(slice(None)))
    scores = [reference_scores(*row) for row in rows]
    groups = {
        "": scores,
        "HasAns_": [score for score, (gold, _) in zip(scores, rows, strict=True) if gold],
        "NoAns_": [score for score, (gold, _) in zip(scores, rows, strict=True) if not gold],
    }
    expected: dict[str, float | None] = {}
    for prefix, group in groups.items():
        if group or not prefix:
            exact, f1 = (100 * sum(score[i] for score in group) / len(group) if group else None for i in (0, 1))
            expected |= {f"{prefix}exact": exact, f"{prefix}f1": f1, f"{prefix}total": len(group)}
    assert set(actual) == set(expected)
    if rows:
        assert actual == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("gold", "predicted", "exact", "f1"),
    [
        (["The Eiffel Tower"], "eiffel tower!", True, 1),
        (["the Eiffel Tower"], "in the Eiffel Tower", False, 4 / 5),  # 2 of 3 and 2 of 2 words
        (["Paris", "Paris, France"], "paris france", True, 1),
        (["Paris, France", "Paris"], "paris france", True, 1),
        (["cat dog", "fish", "cat fish bird"], "cat", False, 2 / 3),
        (["cat cat dog"], "cat dog dog", False, 2 / 3),  # words are counted as multisets
        (["U.S."], "US", True, 1),
        (["state-of-the-art"], "stateoftheart", True, 1),  # punctuation is removed first, so no article remains
        (["\u201cparis\u201d"], "paris", False, 0),  # only ASCII punctuation is removed
        (["an a the"], "", True, 1),  # a gold answer without words is ignored
        (["the", "cat"], "a", False, 0),
        ([], "", True, 1),
        ([], "the", True, 1),
        ([], "cat", False, 0),
        (["cat"], "", False, 0),
        (["dog"], "cat", False, 0),
    ],
)
def test_scores_equal_hand_computed_values(gold: list[str], predicted: str, exact: bool, f1: float) -> None:
    got_exact, got_f1 = row_scores(golds([["x"], gold, []]), answers(["x", predicted, ""]))
    assert got_exact.tolist() == [True, exact, True]
    assert got_f1.tolist() == pytest.approx([1, f1, 1])


def test_a_question_with_a_gold_without_words_is_answerable() -> None:
    got = figures(count(golds([["..."], []]), answers(["", "cat"])))
    assert got == {
        "exact": 50, "f1": 50, "total": 2,
        "HasAns_exact": 100, "HasAns_f1": 100, "HasAns_total": 1,
        "NoAns_exact": 0, "NoAns_f1": 0, "NoAns_total": 1,
    }  # fmt: skip


def test_figures_omit_a_group_without_rows() -> None:
    assert set(figures(count(golds([["x"]]), answers(["x"])))) == {
        "exact", "f1", "total", "HasAns_exact", "HasAns_f1", "HasAns_total"
    }  # fmt: skip
    assert figures(count(golds([]), answers([]))) == figures({}) == {"exact": None, "f1": None, "total": 0}


def test_count_accepts_large_strings_and_sliced_arrays() -> None:
    gold = pa.array([["x"], ["y z"], ["y", "z"]], pa.large_list(pa.large_string()))
    predicted = pa.array(["", "y", "z"], pa.large_string())
    assert figures(count(gold[1:], predicted[1:]))["f1"] == pytest.approx(100 * (2 / 3 + 1) / 2)


@pytest.mark.parametrize(
    ("gold", "predicted", "message"),
    [
        ([["x"], None], ["x", "x"], "1 null"),
        ([["x"], [None]], ["x", "x"], r"2 golds \(1 null\)"),
        ([["x"]], [None], r"1 answers \(1 null\)"),
        ([["x"]], ["x", "y"], "2 answers"),
    ],
)
def test_nulls_and_missing_rows_are_errors(gold: list, predicted: list, message: str) -> None:
    with pytest.raises(MetricError, match=message):
        count(golds(gold), answers(predicted))

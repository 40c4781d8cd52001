"""Tests of the metrics of entity spans against seqeval, on valid and on invalid sequences of tags."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics import classification_report
from seqeval.scheme import IOB2

from distilray.model.arrays import offsets_of
from distilray.model.decode.token_classification import decode, detect_scheme
from distilray.model.errors import MetricError
from distilray.model.metrics.spans import Entities, count, figures
from tests.model.metrics.batches import Cuts, add_up, in_batches

NAMES = ("PER", "LOC", "ORG", "MISC")
LABELS = ("O", *(f"{prefix}-{name}" for name in NAMES for prefix in "BI"))
WORDS = 8
Span = tuple[int, int, int, int]  # text, start, end, label


def entities(spans: list[Span], names: tuple[str, ...] = NAMES) -> Entities:
    columns = np.array(spans, dtype=np.int64).reshape(-1, 4).T
    return Entities(*columns, names)


@st.composite
def corpora(draw: st.DrawFn) -> list[tuple[list[Span], list[Span]]]:
    """Draw gold and predicted spans of a few texts of WORDS words. Spans of one side do not overlap."""

    def spans(text: int) -> list[Span]:
        edges = sorted(draw(st.lists(st.integers(0, WORDS), unique=True, max_size=6)))
        inner = [(text, a, b, draw(st.integers(0, 3))) for a, b in pairwise(edges)]
        return [span for span in inner if draw(st.booleans())]

    corpus = []
    for text in range(draw(st.integers(1, 5))):
        gold = spans(text)
        corpus.append((gold, gold if draw(st.booleans()) else spans(text)))
    return corpus


def tags(spans: list[Span]) -> list[str]:
    text_tags = ["O"] * WORDS
    for _, start, end, label in spans:
        text_tags[start:end] = [f"B-{NAMES[label]}"] + [f"I-{NAMES[label]}"] * (end - start - 1)
    return text_tags


def assert_equal(actual: dict[str, Any], report: dict[str, Any]) -> None:
    averages = {"micro": "micro avg", "macro": "macro avg", "weighted": "weighted avg"}
    rows = {**actual["labels"], **{averages[key]: actual[key] for key in averages}}
    assert set(actual["labels"]) == set(report) - set(averages.values())
    for name, row in rows.items():
        reference = [report[name][key] for key in ("precision", "recall", "f1-score", "support")]
        if not actual["labels"] and name == "macro avg":  # a mean over no labels is NaN in seqeval and 0 here
            reference = [0, 0, 0, 0]
        assert list(row.values()) == pytest.approx(reference, rel=1e-12), name


@given(corpora(), Cuts)
def test_figures_equal_seqeval(corpus: list[tuple[list[Span], list[Span]]], cuts: list[int]) -> None:
    def batch(texts: slice) -> dict[str, Any]:
        gold, predicted = ([span for pair in corpus[texts] for span in pair[side]] for side in (0, 1))
        return count(entities(gold), entities(predicted[::-1]))

    actual = figures(in_batches(len(corpus), cuts, batch))
    assert actual == figures(batch(slice(None)))
    gold, predicted = ([tags(pair[side]) for pair in corpus] for side in (0, 1))
    assert_equal(actual, classification_report(gold, predicted, output_dict=True, zero_division=0))
    if actual["labels"]:  # strict mode rejects a corpus without entities
        strict = classification_report(gold, predicted, output_dict=True, zero_division=0, mode="strict", scheme=IOB2)
        assert_equal(actual, strict)


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=9), min_size=1, max_size=5)
)
def test_figures_of_decoded_tags_equal_conlleval(texts: list[list[tuple[int, int]]]) -> None:
    """The decoder gets any sequence of tags, such as `I-PER` after `B-LOC` or `I-` at the start."""
    offsets = offsets_of(np.array([len(text) for text in texts]))
    places = np.concatenate([np.arange(len(text)) for text in texts])

    def spans(side: int) -> Entities:
        chosen = [pair[side] for text in texts for pair in text]
        logits = 9 * np.eye(len(LABELS), dtype=np.float32)[chosen]
        every = np.ones(len(chosen), dtype=bool)
        got = decode(logits, offsets, every, places, places + 1, detect_scheme(LABELS), "first")
        return Entities(got.text, got.start, got.end, got.label, got.names)

    gold, predicted = ([[LABELS[pair[side]] for pair in text] for text in texts] for side in (0, 1))
    report = classification_report(gold, predicted, output_dict=True, zero_division=0)
    assert_equal(figures(add_up([count(spans(0), spans(1))])), report)


def test_figures_equal_hand_computed_values() -> None:
    """Two of three PER are predicted, one of them with a wrong end. A LOC is predicted as ORG.

    A span of the second text does not match an equal span of the first.
    """
    gold = entities([(0, 0, 2, 0), (0, 5, 6, 0), (0, 7, 8, 1), (1, 0, 2, 0)])
    predicted = entities([(0, 0, 2, 0), (0, 5, 7, 0), (0, 7, 8, 2)])
    counts = count(gold, predicted)
    assert counts == {
        "LOC": {"hits": 0, "found": 0, "gold": 1},
        "ORG": {"hits": 0, "found": 1, "gold": 0},
        "PER": {"hits": 1, "found": 2, "gold": 3},
    }
    got = figures(counts)
    assert got["labels"]["PER"] == {"precision": 1 / 2, "recall": 1 / 3, "f1": 2 / 5, "support": 3}
    assert got["micro"] == {"precision": 1 / 3, "recall": 1 / 4, "f1": 2 / 7, "support": 4}
    assert got["macro"]["f1"] == pytest.approx(2 / 15)
    assert got["weighted"]["f1"] == pytest.approx(3 / 10)


def test_a_duplicate_span_counts_once() -> None:
    once, twice = [(0, 1, 2, 0)], [(0, 1, 2, 0), (0, 1, 2, 0)]
    assert count(entities(once), entities(twice)) == count(entities(twice), entities(once))
    assert count(entities(once), entities(twice)) == {"PER": {"hits": 1, "found": 1, "gold": 1}}


def test_figures_sort_labels_by_name() -> None:
    batches = [count(entities([(0, 1, 2, label)]), entities([])) for label in (0, 2, 1)]
    assert list(figures(add_up(batches))["labels"]) == ["LOC", "ORG", "PER"]


def test_spans_may_overlap() -> None:
    gold, predicted = [(0, 0, 5, 0), (0, 1, 2, 1)], [(0, 1, 2, 1), (0, 1, 2, 0)]
    assert figures(count(entities(gold), entities(predicted)))["micro"]["f1"] == 1 / 2


def test_labels_are_compared_by_name() -> None:
    gold, predicted = entities([(0, 1, 2, 0)], names=("LOC", "PER")), entities([(0, 1, 2, 1)], names=("AGE", "LOC"))
    assert count(gold, predicted) == {"LOC": {"hits": 1, "found": 1, "gold": 1}}


def test_figures_of_no_spans_are_zero() -> None:
    nothing = count(entities([]), entities([], names=()))
    zeros = {"precision": 0, "recall": 0, "f1": 0, "support": 0}
    assert figures(nothing) == {"micro": zeros, "macro": zeros, "weighted": zeros, "labels": {}}


@pytest.mark.parametrize("label", [4, -1])
def test_a_label_without_a_name_is_an_error(label: int) -> None:
    with pytest.raises(MetricError, match=f"expected labels from 0 to 3, one for each name, got {label} in span 1"):
        count(entities([]), entities([(0, 0, 1, 0), (0, 2, 3, label)]))

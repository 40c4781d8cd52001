"""Tests of the decoding of token logits to spans, against simple loops and hand-computed values."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distilray.model.decode.token_classification import (
    Aggregation,
    TagScheme,
    detect_scheme,
    hf_scheme,
    token_scheme,
)
from tests.model.decode.decoding import (
    AGGREGATIONS,
    SCHEMES,
    Case,
    cases,
    chunks,
    detected_spans,
    label_set,
    one_text,
    read_tag,
    reference,
    spans_of,
    tagged,
)

SCORE = 1e-6


def assert_equals_reference(case: Case, scheme: TagScheme, prefixed: bool, aggregation: Aggregation) -> None:
    actual = case.decode(scheme, aggregation)
    expected = reference(case, prefixed, aggregation)
    assert [spans_of(actual, text) for text in range(len(case.lengths))] == [[s[:3] for s in text] for text in expected]
    assert actual.score.tolist() == pytest.approx([s[3] for text in expected for s in text], abs=SCORE)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("letters", SCHEMES.values(), ids=SCHEMES)
@settings(max_examples=20)
@given(data=st.data())
def test_decoding_equals_conlleval(letters: str, aggregation: Aggregation, data: st.DataObject) -> None:
    case = data.draw(cases(label_set(letters)))
    scheme = token_scheme(case.labels) if aggregation == "none" else detect_scheme(case.labels)
    assert_equals_reference(case, scheme, prefixed=True, aggregation=aggregation)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@settings(max_examples=20)
@given(data=st.data())
def test_labels_without_a_scheme_group_by_name(aggregation: Aggregation, data: st.DataObject) -> None:
    case = data.draw(cases(("O", "PER", "DATE-TIME", "E-MAIL")))
    scheme = token_scheme(case.labels) if aggregation == "none" else detect_scheme(case.labels)
    assert_equals_reference(case, scheme, prefixed=False, aggregation=aggregation)


@pytest.mark.parametrize("letters", SCHEMES.values(), ids=SCHEMES)
@given(tags=st.data())
def test_certain_tags_in_any_order_equal_conlleval(letters: str, tags: st.DataObject) -> None:
    labels = label_set(letters)
    sequence = tags.draw(st.lists(st.sampled_from(labels), max_size=15))
    expected = [(2 * a, 2 * b + 1, kind) for a, b, kind in chunks([read_tag(tag, prefixed=True) for tag in sequence])]
    assert detected_spans(labels, " ".join(sequence)) == expected


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("scheme_of", [detect_scheme, hf_scheme, token_scheme])
@settings(max_examples=20)
@given(data=st.data())
def test_spans_are_sorted_and_never_overlap(
    scheme_of: Callable[[Sequence[str]], TagScheme], aggregation: Aggregation, data: st.DataObject
) -> None:
    case = data.draw(cases(label_set("BIES")))
    spans = case.decode(scheme_of(case.labels), aggregation)
    assert (np.diff(spans.text) >= 0).all()
    for text in range(len(case.lengths)):
        assert all(a[1] <= b[0] for a, b in pairwise(spans_of(spans, text)))
    assert ((spans.score >= 0) & (spans.score <= 1 + SCORE)).all()
    assert (spans.start <= spans.end).all()


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("n", [1, 3])
def test_decoding_leaves_the_logits_as_they_are(aggregation: Aggregation, n: int) -> None:
    case = tagged(label_set("BI"), "B-PER " * n)
    before = case.logits.copy()
    case.decode(detect_scheme(case.labels), aggregation)
    assert np.array_equal(case.logits, before)


# values of Transformers' public pipeline tests

HAND = ("O", "B-MISC", "I-MISC", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC")


def row(**probabilities: float) -> list[float]:
    """Make a row of probabilities over HAND. The keyword B_PER stands for the label B-PER."""
    given = {name.replace("_", "-"): value for name, value in probabilities.items()}
    rest = (1 - sum(given.values())) / (len(HAND) - len(given))
    return [given.get(label, rest) for label in HAND]


ENZO = one_text(
    HAND,
    [row(I_PER=0.9968), row(I_PER=0.9958), row(O=0.99), row(O=0.99), row(B_ORG=0.9986)],
    [True, False, True, True, True],
    [(0, 2), (2, 4), (5, 7), (8, 10), (11, 13)],
)


@pytest.mark.parametrize(
    ("aggregation", "enzo"), [("simple", 0.9963), ("average", 0.9963), ("first", 0.9968), ("max", 0.9968)]
)
@pytest.mark.parametrize("scheme_of", [detect_scheme, hf_scheme])
def test_spans_of_the_enzo_example_equal_transformers(
    scheme_of: Callable[[Sequence[str]], TagScheme], aggregation: Aggregation, enzo: float
) -> None:
    spans = ENZO.decode(scheme_of(HAND), aggregation)
    assert spans_of(spans) == [(0, 4, "PER"), (11, 13, "ORG")]
    assert spans.score.tolist() == pytest.approx([enzo, 0.9986], abs=1e-5)


RAMAZOTTI = one_text(
    HAND,
    [row(I_MISC=0.55, I_PER=0.45), row(I_PER=0.2, B_LOC=0.8), row(I_PER=0.4, I_ORG=0.6)],
    [True, False, False],
    [(0, 2), (2, 4), (4, 9)],
)


@pytest.mark.parametrize(
    ("aggregation", "kind", "score"), [("first", "MISC", 0.55), ("max", "LOC", 0.8), ("average", "PER", 0.35)]
)
@pytest.mark.parametrize("scheme_of", [detect_scheme, hf_scheme])
def test_the_tokens_of_one_word_form_one_span(
    scheme_of: Callable[[Sequence[str]], TagScheme], aggregation: Aggregation, kind: str, score: float
) -> None:
    spans = RAMAZOTTI.decode(scheme_of(HAND), aggregation)
    assert spans_of(spans) == [(0, 9, kind)]
    assert spans.score.tolist() == pytest.approx([score], abs=1e-5)


def test_max_selects_the_first_of_two_equal_tokens() -> None:
    case = one_text(("O", "I-A", "I-B"), [[0.1, 0.8, 0.1], [0.1, 0.1, 0.8]], [True, False])
    assert spans_of(case.decode(detect_scheme(case.labels), "max")) == [(0, 3, "A")]


def test_no_span_crosses_the_edge_of_a_text() -> None:
    case = replace(tagged(label_set("BI"), "B-PER I-PER I-PER"), lengths=[2, 0, 1])
    spans = case.decode(detect_scheme(case.labels), "simple")
    assert [spans_of(spans, text) for text in range(3)] == [[(0, 3, "PER")], [], [(4, 5, "PER")]]


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_no_tokens_give_no_spans(aggregation: Aggregation) -> None:
    case = Case(label_set("BI"), np.zeros((0, 5), dtype=np.float32), [0, 0], [], [], [])
    spans = case.decode(detect_scheme(case.labels), aggregation)
    assert all(len(column) == 0 for column in (spans.text, spans.start, spans.end, spans.label, spans.score))

"""Tests of the detection of tag schemes, of known defects of Transformers, and of thresholds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distilray.model.decode.token_classification import EntitySpans, above_threshold, detect_scheme, token_scheme
from tests.model.decode.decoding import SCHEMES, detected_spans, hf_spans, label_set, one_text


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (label_set("I"), {"O", "PER", "LOC"}),
        (label_set("BI"), {"O", "PER", "LOC"}),
        (label_set("BIES"), {"O", "PER", "LOC"}),
        (label_set("BILU"), {"O", "PER", "LOC"}),
        (label_set("BMES"), {"O", "PER", "LOC"}),
        (label_set("BI", dash="_"), {"O", "PER", "LOC"}),
        (label_set("BI")[1:], {"PER", "LOC"}),
        (("O", "B-DATE-TIME", "I-DATE-TIME"), {"O", "DATE-TIME"}),
        (("O", "B-first_name", "I-first_name"), {"O", "first_name"}),
        (("O", "DATE-TIME"), {"O", "DATE-TIME"}),
        (("O", "PER", "LOC"), {"O", "PER", "LOC"}),
        (("PER", "LOC"), {"PER", "LOC"}),
        (("O", "E-MAIL", "PHONE"), {"O", "E-MAIL", "PHONE"}),
        (("O", "E-MAIL"), {"O", "E-MAIL"}),
        (("O", "S-BAHN", "U-BAHN"), {"O", "S-BAHN", "U-BAHN"}),
        (("O", "B-PER", "I-PER", "PHONE"), {"O", "PER", "PHONE"}),
        (("O", "X-PER", "B-PER", "I-PER"), {"O", "X-PER", "PER"}),
        (("O", "b-per", "i-per"), {"O", "b-per", "i-per"}),
        (("O", "B-", "I-"), {"O", "B-", "I-"}),
        (("LABEL_0", "LABEL_1"), {"LABEL_0", "LABEL_1"}),
        (("O",), {"O"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_only_prefixes_of_a_known_scheme_are_removed(labels: tuple[str, ...], names: set[str]) -> None:
    assert set(detect_scheme(labels).names) == names


@pytest.mark.parametrize(
    ("letters", "starts", "ends"),
    [("I", "", ""), ("BI", "B", ""), ("BIES", "BS", "ES"), ("BILU", "BU", "LU"), ("BMES", "BS", "ES")],
    ids=SCHEMES,
)
def test_letters_start_and_end_spans(letters: str, starts: str, ends: str) -> None:
    labels = label_set(letters)
    scheme = detect_scheme(labels)
    assert {label[0] for label, yes in zip(labels, scheme.starts, strict=True) if yes} == set(starts)
    assert {label[0] for label, yes in zip(labels, scheme.ends, strict=True) if yes} == set(ends)
    assert [label for label, yes in zip(labels, scheme.outside, strict=True) if yes] == ["O"]


def test_a_label_that_resembles_an_end_tag_keeps_its_name() -> None:
    """There is no B-MAIL for E-MAIL, so the labels are IOB2 with one label that has no prefix."""
    labels = ("O", "B-PER", "I-PER", "E-MAIL")
    assert "MAIL" not in detect_scheme(labels).names


def test_a_type_called_o_is_not_outside() -> None:
    labels = ("O", "B-O", "I-O")
    assert detected_spans(labels, "O B-O I-O O") == [(2, 5, "O")]
    assert hf_spans(labels, "O B-O I-O O") == []


def test_a_label_set_without_o_labels_every_token() -> None:
    assert detected_spans(("B-PER", "I-PER"), "B-PER I-PER B-PER") == [(0, 3, "PER"), (4, 5, "PER")]


# known defects of Transformers, and the spans without them


def test_bioes_spans_are_not_split() -> None:
    labels = label_set("BIES")
    assert detected_spans(labels, "B-PER I-PER E-PER") == [(0, 5, "PER")]
    assert hf_spans(labels, "B-PER I-PER E-PER") == [(0, 3, "PER"), (4, 5, "PER")]


def test_single_token_spans_are_not_merged() -> None:
    labels = label_set("BIES")
    assert detected_spans(labels, "S-PER S-PER") == [(0, 1, "PER"), (2, 3, "PER")]
    assert hf_spans(labels, "S-PER S-PER") == [(0, 3, "PER")]


def test_names_with_dashes_are_not_cut() -> None:
    assert detected_spans(("O", "DATE-TIME"), "DATE-TIME DATE-TIME") == [(0, 3, "DATE-TIME")]
    assert hf_spans(("O", "DATE-TIME"), "DATE-TIME DATE-TIME") == [(0, 3, "TIME")]
    assert detected_spans(("O", "B-DATE-TIME", "I-DATE-TIME"), "B-DATE-TIME I-DATE-TIME") == [(0, 3, "DATE-TIME")]


def test_an_underscore_separates_a_prefix() -> None:
    labels = label_set("BI", dash="_")
    assert detected_spans(labels, "B_PER I_PER B_PER") == [(0, 3, "PER"), (4, 5, "PER")]
    assert hf_spans(labels, "B_PER I_PER") == [(0, 1, "B_PER"), (2, 3, "I_PER")]


# thresholds


def test_a_threshold_of_a_label_overrides_the_default() -> None:
    case = one_text(("O", "A", "B"), [[0.1, 0.9, 0], [0.4, 0.6, 0], [0.1, 0, 0.9], [0.25, 0, 0.75]])
    spans = case.decode(token_scheme(case.labels), "none")

    def kept(threshold: float, **by_label: float) -> list[int]:
        return above_threshold(spans, threshold, by_label).start.tolist()

    assert kept(0.0) == [0, 2, 4, 6]
    assert kept(0.7) == [0, 4, 6]
    assert kept(0.7, A=0.5) == [0, 2, 4, 6]
    assert kept(0.0, B=0.8) == [0, 2, 4]
    assert kept(1.0) == []


def test_a_score_at_the_threshold_is_kept() -> None:
    spans = EntitySpans(*(np.zeros(2, dtype=int) for _ in range(4)), np.array([0.9, 0.89], dtype=np.float32), ("A",))
    assert above_threshold(spans, 0.9, {}).score.tolist() == pytest.approx([0.9])
    assert above_threshold(spans, 0.0, {"A": 0.9}).score.tolist() == pytest.approx([0.9])


@given(st.lists(st.tuples(st.sampled_from("AB"), st.floats(0, 1, width=32)), max_size=20), st.floats(0, 1, width=32))
def test_thresholds_equal_a_loop(scored: list[tuple[str, float]], threshold: float) -> None:
    zeros = np.zeros(len(scored), dtype=np.int64)
    label = np.array(["AB".index(name) for name, _ in scored], dtype=np.int64)
    scores = np.array([score for _, score in scored], dtype=np.float32)
    spans = EntitySpans(zeros, zeros, np.arange(len(scored)), label, scores, ("A", "B"))
    expected = [i for i, (name, score) in enumerate(scored) if score >= {"A": 0.5, "B": threshold}[name]]
    assert above_threshold(spans, threshold, {"A": 0.5}).end.tolist() == expected

"""Token logits to spans: against loops that are obviously right, by hand, and beside Transformers' known defects."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distilray.model.decode.token_classification import (
    Aggregation,
    Spans,
    TagScheme,
    above,
    decode,
    detect_scheme,
    hf_merge_windows,
    hf_scheme,
    softmax,
    token_scheme,
)
from distilray.model.packed import offsets_of

AGGREGATIONS: tuple[Aggregation, ...] = ("none", "simple", "first", "average", "max")
SCORE = 1e-6
KINDS = ("PER", "LOC")
# a scheme's letters, and which of them say what B, I, E and S say in conlleval
SCHEMES = {"IO": "I", "IOB2": "BI", "BIOES": "BIES", "BILOU": "BILU", "BMES": "BMES"}
CONLLEVAL = {"B": "B", "I": "I", "M": "I", "E": "E", "L": "E", "S": "S", "U": "S"}

Span = tuple[int, int, str]


@dataclass(frozen=True)
class Case:
    """R texts of N tokens: logits [N, L] and everything `decode` needs beside them."""

    labels: tuple[str, ...]
    logits: np.ndarray
    lengths: list[int]
    starts_word: list[bool]
    start: list[int]
    end: list[int]

    @property
    def offsets(self) -> np.ndarray:
        return offsets_of(np.array(self.lengths, dtype=np.int64))

    def decode(self, scheme: TagScheme, aggregation: Aggregation) -> Spans:
        arrays = (self.starts_word, self.start, self.end)
        starts_word, start, end = (
            np.array(x, dtype=t) for x, t in zip(arrays, (bool, np.int32, np.int32), strict=True)
        )
        return decode(self.logits, self.offsets, starts_word, start, end, scheme, aggregation)


def spans_of(spans: Spans, text: int = 0) -> list[Span]:
    """Start, end and label of the spans of one text."""
    columns = (column.tolist() for column in (spans.text, spans.start, spans.end, spans.label))
    return [(start, end, spans.names[label]) for t, start, end, label in zip(*columns, strict=True) if t == text]


def one_text(
    labels: Sequence[str],
    probabilities: Sequence[Sequence[float]],
    starts_word: Sequence[bool] | None = None,
    characters: Sequence[Span] | Sequence[tuple[int, int]] | None = None,
) -> Case:
    """A text whose tokens have these probabilities; by default every token is a word of one character."""
    n = len(probabilities)
    places = [(2 * i, 2 * i + 1) for i in range(n)] if characters is None else characters
    with np.errstate(divide="ignore"):
        logits = np.log(np.array(probabilities, dtype=np.float32).reshape(n, len(labels)))
    words = [True] * n if starts_word is None else list(starts_word)
    return Case(tuple(labels), logits, [n], words, [place[0] for place in places], [place[1] for place in places])


def tagged(labels: Sequence[str], tags: str) -> Case:
    """A text of one token a tag, each tag certain."""
    return one_text(labels, [[float(label == tag) for label in labels] for tag in tags.split()])


def our_spans(labels: Sequence[str], tags: str) -> list[Span]:
    return spans_of(tagged(labels, tags).decode(detect_scheme(labels), "simple"))


def hf_spans(labels: Sequence[str], tags: str) -> list[Span]:
    return spans_of(tagged(labels, tags).decode(hf_scheme(labels), "simple"))


# the reference


def start_of_chunk(previous: str, letter: str, previous_kind: str, kind: str) -> bool:
    """conlleval.pl's startOfChunk."""
    if letter in ("B", "S"):
        return True
    if previous in ("E", "S", "O") and letter in ("E", "I"):
        return True
    return letter != "O" and previous_kind != kind


def end_of_chunk(previous: str, letter: str, previous_kind: str, kind: str) -> bool:
    """conlleval.pl's endOfChunk."""
    if previous in ("E", "S"):
        return True
    if previous in ("B", "I") and letter in ("B", "S", "O"):
        return True
    return previous != "O" and previous_kind != kind


def chunks(tags: list[tuple[str, str]]) -> list[tuple[int, int, str]]:
    """First, last and kind of each chunk of (letter, kind) tags."""
    found = []
    first = None
    for i, (letter, kind) in enumerate([*tags, ("O", "")]):
        previous, previous_kind = tags[i - 1] if i else ("O", "")
        if first is not None and end_of_chunk(previous, letter, previous_kind, kind):
            found.append((first, i - 1, previous_kind))
            first = None
        if i < len(tags) and start_of_chunk(previous, letter, previous_kind, kind):
            first = i
    return found


def words_of(case: Case, first: int, length: int, aggregation: Aggregation) -> list[tuple[list[int], int, float]]:
    """The tokens, label and score of each word of a text; of each token for "none" and "simple"."""
    probabilities = softmax(case.logits).astype(np.float64)
    words: list[list[int]] = []
    for token in range(first, first + length):
        if aggregation in ("none", "simple") or token == first or case.starts_word[token]:
            words.append([token])
        else:
            words[-1].append(token)
    labelled = []
    for tokens in words:
        rows = [probabilities[token] for token in tokens]
        if aggregation == "average":
            row = sum(rows) / len(rows)
        elif aggregation == "max":
            row = max(rows, key=max)
        else:
            row = rows[0]
        labelled.append((tokens, int(np.argmax(row)), float(np.max(row))))
    return labelled


def read_tag(label: str, prefixed: bool) -> tuple[str, str]:
    if label == "O":
        return "O", ""
    return (CONLLEVAL[label[0]], label[2:]) if prefixed else ("I", label)


def reference(case: Case, prefixed: bool, aggregation: Aggregation) -> list[list[tuple[int, int, str, float]]]:
    """The spans of each text."""
    answer = []
    for first, length in zip(case.offsets[:-1].tolist(), case.lengths, strict=True):
        words = words_of(case, first, length, aggregation)
        if aggregation == "none":
            groups = [(i, i, case.labels[label]) for i, (_, label, _) in enumerate(words) if case.labels[label] != "O"]
        else:
            groups = chunks([read_tag(case.labels[label], prefixed) for _, label, _ in words])
        answer.append(
            [
                (
                    case.start[words[a][0][0]],
                    case.end[words[b][0][-1]],
                    kind,
                    sum(score for _, _, score in words[a : b + 1]) / (b - a + 1),
                )
                for a, b, kind in groups
            ]
        )
    return answer


@st.composite
def cases(draw: st.DrawFn, labels: tuple[str, ...]) -> Case:
    """Texts of words of a few tokens, with gaps between them; logits so moderate that no two averages tie by rounding."""
    lengths = draw(st.lists(st.integers(0, 12), min_size=1, max_size=5))
    n = sum(lengths)
    seed = draw(st.integers(0, 2**32 - 1))
    spread = draw(st.sampled_from([0.5, 2.0]))
    random = np.random.default_rng(seed)
    words = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    start, end = [], []
    for length in lengths:
        edges = np.cumsum(random.integers(0, 4, 2 * length))
        start += edges[::2].tolist()
        end += edges[1::2].tolist()
    for first in np.cumsum([0, *lengths[:-1]]).tolist():
        words[first : first + 1] = [True] * len(words[first : first + 1])
    logits = (spread * random.standard_normal((n, len(labels)))).astype(np.float32)
    return Case(labels, logits, lengths, words, start, end)


def assert_equals_reference(case: Case, scheme: TagScheme, prefixed: bool, aggregation: Aggregation) -> None:
    ours = case.decode(scheme, aggregation)
    wanted = reference(case, prefixed, aggregation)
    assert [spans_of(ours, text) for text in range(len(case.lengths))] == [[s[:3] for s in text] for text in wanted]
    assert ours.score.tolist() == pytest.approx([s[3] for text in wanted for s in text], abs=SCORE)


def label_set(letters: str, kinds: Sequence[str] = KINDS, dash: str = "-") -> tuple[str, ...]:
    return ("O", *(f"{letter}{dash}{kind}" for kind in kinds for letter in letters))


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("letters", SCHEMES.values(), ids=SCHEMES)
@settings(max_examples=40)
@given(data=st.data())
def test_decoding_equals_conlleval(letters: str, aggregation: Aggregation, data: st.DataObject) -> None:
    case = data.draw(cases(label_set(letters)))
    scheme = token_scheme(case.labels) if aggregation == "none" else detect_scheme(case.labels)
    assert_equals_reference(case, scheme, prefixed=True, aggregation=aggregation)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@settings(max_examples=40)
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
    wanted = [(2 * a, 2 * b + 1, kind) for a, b, kind in chunks([read_tag(tag, prefixed=True) for tag in sequence])]
    assert our_spans(labels, " ".join(sequence)) == wanted


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("scheme_of", [detect_scheme, hf_scheme, token_scheme])
@settings(max_examples=40)
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


# by hand: Transformers' own public pipeline tests

HAND = ("O", "B-MISC", "I-MISC", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC")


def row(**probabilities: float) -> list[float]:
    """A row over HAND; keyword B_PER is label B-PER."""
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
def test_enzo_works_at_the_un(
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
def test_ramazotti_is_one_word(
    scheme_of: Callable[[Sequence[str]], TagScheme], aggregation: Aggregation, kind: str, score: float
) -> None:
    spans = RAMAZOTTI.decode(scheme_of(HAND), aggregation)
    assert spans_of(spans) == [(0, 9, kind)]
    assert spans.score.tolist() == pytest.approx([score], abs=1e-5)


def test_max_takes_the_first_of_two_tokens_that_tie() -> None:
    case = one_text(("O", "I-A", "I-B"), [[0.1, 0.8, 0.1], [0.1, 0.1, 0.8]], [True, False])
    assert spans_of(case.decode(detect_scheme(case.labels), "max")) == [(0, 3, "A")]


def test_texts_do_not_flow_into_each_other() -> None:
    case = replace(tagged(label_set("BI"), "B-PER I-PER I-PER"), lengths=[2, 0, 1])
    spans = case.decode(detect_scheme(case.labels), "simple")
    assert [spans_of(spans, text) for text in range(3)] == [[(0, 3, "PER")], [], [(4, 5, "PER")]]


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_no_tokens_give_no_spans(aggregation: Aggregation) -> None:
    case = Case(label_set("BI"), np.zeros((0, 5), dtype=np.float32), [0, 0], [], [], [])
    spans = case.decode(detect_scheme(case.labels), aggregation)
    assert all(len(column) == 0 for column in (spans.text, spans.start, spans.end, spans.label, spans.score))


# which scheme a label set has


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
def test_prefixes_are_stripped_only_of_a_known_scheme(labels: tuple[str, ...], names: set[str]) -> None:
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


def test_a_label_that_only_looks_like_an_end_is_none() -> None:
    """E-MAIL has no B-MAIL: these are the labels of IOB2, and a whole one."""
    labels = ("O", "B-PER", "I-PER", "E-MAIL")
    assert "MAIL" not in detect_scheme(labels).names


def test_a_type_called_o_is_not_outside() -> None:
    labels = ("O", "B-O", "I-O")
    assert our_spans(labels, "O B-O I-O O") == [(2, 5, "O")]
    assert hf_spans(labels, "O B-O I-O O") == []


def test_a_label_set_without_o_labels_every_token() -> None:
    assert our_spans(("B-PER", "I-PER"), "B-PER I-PER B-PER") == [(0, 3, "PER"), (4, 5, "PER")]


# Transformers' known defects, beside ours


def test_bioes_spans_stay_whole() -> None:
    labels = label_set("BIES")
    assert our_spans(labels, "B-PER I-PER E-PER") == [(0, 5, "PER")]
    assert hf_spans(labels, "B-PER I-PER E-PER") == [(0, 3, "PER"), (4, 5, "PER")]


def test_single_token_spans_stay_apart() -> None:
    labels = label_set("BIES")
    assert our_spans(labels, "S-PER S-PER") == [(0, 1, "PER"), (2, 3, "PER")]
    assert hf_spans(labels, "S-PER S-PER") == [(0, 3, "PER")]


def test_names_with_dashes_stay_whole() -> None:
    assert our_spans(("O", "DATE-TIME"), "DATE-TIME DATE-TIME") == [(0, 3, "DATE-TIME")]
    assert hf_spans(("O", "DATE-TIME"), "DATE-TIME DATE-TIME") == [(0, 3, "TIME")]
    assert our_spans(("O", "B-DATE-TIME", "I-DATE-TIME"), "B-DATE-TIME I-DATE-TIME") == [(0, 3, "DATE-TIME")]


def test_underscores_separate_too() -> None:
    labels = label_set("BI", dash="_")
    assert our_spans(labels, "B_PER I_PER B_PER") == [(0, 3, "PER"), (4, 5, "PER")]
    assert hf_spans(labels, "B_PER I_PER") == [(0, 1, "B_PER"), (2, 3, "I_PER")]


# thresholds


def test_thresholds_go_by_label_and_by_default() -> None:
    case = one_text(("O", "A", "B"), [[0.1, 0.9, 0], [0.4, 0.6, 0], [0.1, 0, 0.9], [0.25, 0, 0.75]])
    spans = case.decode(token_scheme(case.labels), "none")

    def kept(threshold: float, **by_label: float) -> list[int]:
        return above(spans, threshold, by_label).start.tolist()

    assert kept(0.0) == [0, 2, 4, 6]
    assert kept(0.7) == [0, 4, 6]
    assert kept(0.7, A=0.5) == [0, 2, 4, 6]
    assert kept(0.0, B=0.8) == [0, 2, 4]
    assert kept(1.0) == []


def test_a_score_at_the_threshold_is_kept() -> None:
    spans = Spans(*(np.zeros(2, dtype=int) for _ in range(4)), np.array([0.9, 0.89], dtype=np.float32), ("A",))
    assert above(spans, 0.9, {}).score.tolist() == pytest.approx([0.9])
    assert above(spans, 0.0, {"A": 0.9}).score.tolist() == pytest.approx([0.9])


@given(st.lists(st.tuples(st.sampled_from("AB"), st.floats(0, 1, width=32)), max_size=20), st.floats(0, 1, width=32))
def test_thresholds_equal_a_loop(scored: list[tuple[str, float]], threshold: float) -> None:
    zeros = np.zeros(len(scored), dtype=np.int64)
    label = np.array(["AB".index(name) for name, _ in scored], dtype=np.int64)
    scores = np.array([score for _, score in scored], dtype=np.float32)
    spans = Spans(zeros, zeros, np.arange(len(scored)), label, scores, ("A", "B"))
    wanted = [i for i, (name, score) in enumerate(scored) if score >= {"A": 0.5, "B": threshold}[name]]
    assert above(spans, threshold, {"A": 0.5}).end.tolist() == wanted


# Transformers' merge of windows

Entity = tuple[int, int, float, int]  # start, end, score, number


def naive_merge(entities: list[Entity]) -> list[int]:
    """Of the entities of one text: those that Transformers keeps."""
    kept: list[Entity] = []
    for entity in sorted(entities, key=lambda e: e[0]):
        if not kept or entity[0] >= kept[-1][1]:
            kept.append(entity)
        elif (entity[1] - entity[0], entity[2]) > (kept[-1][1] - kept[-1][0], kept[-1][2]):
            kept[-1] = entity
    return [number for *_, number in kept]


@st.composite
def windowed_spans(draw: st.DrawFn) -> tuple[Spans, np.ndarray]:
    """Spans of the windows of a few texts, in each window sorted and apart, and the text of each window."""
    text_of_window = np.repeat(np.arange(4), draw(st.lists(st.integers(0, 4), min_size=4, max_size=4)))
    window, start, end, score = [], [], [], []
    for i in range(len(text_of_window)):
        edges = sorted(draw(st.sets(st.integers(0, 40), max_size=12)))
        edges = edges[: len(edges) // 2 * 2]
        window += [i] * (len(edges) // 2)
        start += edges[::2]
        end += edges[1::2]
        score += draw(st.lists(st.sampled_from([0.25, 0.5, 1.0]), min_size=len(edges) // 2, max_size=len(edges) // 2))
    label = np.arange(len(start)) % 2
    spans = Spans(
        np.array(window, dtype=np.int64),
        np.array(start, dtype=np.int32),
        np.array(end, dtype=np.int32),
        label,
        np.array(score, dtype=np.float32),
        ("A", "B"),
    )
    return spans, text_of_window


@given(windowed_spans())
def test_merging_windows_equals_the_rule(drawn: tuple[Spans, np.ndarray]) -> None:
    spans, text_of_window = drawn
    numbered = list(
        zip(spans.start.tolist(), spans.end.tolist(), spans.score.tolist(), range(len(spans.start)), strict=True)
    )
    wanted: list[int] = []
    for text, group in groupby(numbered, key=lambda entity: text_of_window[spans.text[entity[3]]]):
        entities = list(group)
        alone = (text_of_window == text).sum() == 1
        wanted += [number for *_, number in entities] if alone else naive_merge(entities)
    merged = hf_merge_windows(spans, text_of_window)
    assert merged.text.tolist() == text_of_window[spans.text[wanted]].tolist()
    for name in ("start", "end", "label", "score"):
        assert getattr(merged, name).tolist() == getattr(spans, name)[wanted].tolist()


def test_a_long_unsure_span_beats_a_short_sure_one() -> None:
    """A defect of Transformers' merge that compat keeps."""
    spans = Spans(
        text=np.array([0, 1]),
        start=np.array([3, 0], dtype=np.int32),
        end=np.array([5, 4], dtype=np.int32),
        label=np.array([0, 1]),
        score=np.array([0.999, 0.3], dtype=np.float32),
        names=("A", "B"),
    )
    assert spans_of(hf_merge_windows(spans, np.array([0, 0]))) == [(0, 4, "B")]


def test_merging_the_windows_of_no_text_gives_no_spans() -> None:
    nothing = np.zeros(0, dtype=np.int64)
    spans = Spans(nothing, nothing, nothing, nothing, nothing.astype(np.float32), ("A",))
    assert len(hf_merge_windows(spans, nothing).start) == 0


@given(st.lists(st.lists(st.floats(-50, 50, width=32), min_size=3, max_size=3), min_size=1, max_size=9))
def test_softmax_rows_are_probabilities(logits: list[list[float]]) -> None:
    rows = softmax(np.array(logits, dtype=np.float32))
    assert rows.dtype == np.float32
    assert rows.sum(-1) == pytest.approx(1, abs=1e-5)
    assert (rows >= 0).all()

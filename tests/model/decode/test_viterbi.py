"""Tests of the best allowed path, against an enumeration of all paths and the rules of each scheme."""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distilray.model.arrays import offsets_of
from distilray.model.decode.scores import softmax
from distilray.model.decode.token_classification import Aggregation, EntitySpans, decode, detect_scheme
from distilray.model.decode.viterbi import best_path, tag_rules
from distilray.model.inference.windows import word_starts

AGGREGATIONS: tuple[Aggregation, ...] = ("simple", "first", "average", "max")
LEAST = np.finfo(np.float32).tiny
EXACT = 1e-5


def label_set(letters: str, kinds: Sequence[str] = ("PER", "LOC")) -> tuple[str, ...]:
    return ("O", *(f"{letter}-{kind}" for kind in kinds for letter in letters))


LABELS = {
    "IO": label_set("I"),
    "IOB1": ("O", "I-PER", "I-LOC", "B-LOC"),
    "IOB2": label_set("BI"),
    "BIOES": label_set("BIES"),
    "BILOU": label_set("BILU"),
    "BMES": label_set("BMES"),
    "no O": label_set("BIES", ["PER"])[1:],
    "no S": ("O", "B-PER", "I-PER", "E-PER", "B-LOC", "E-LOC"),
    "no E": ("O", "B-PER", "I-PER", "E-PER", "B-LOC", "I-LOC", "S-LOC"),
    "no I": ("O", "B-PER", "E-PER", "S-PER", "B-LOC"),
    "no B": ("O", "B-PER", "M-PER", "E-PER", "S-PER", "M-LOC", "S-LOC"),
    "X": ("O", "X", "B-PER", "I-PER", "X-Y"),
    "underscores": ("I-LOC", "O", "B_PER", "I_PER", "B-PER", "B-LOC"),
}
SCHEMES = pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)


# the rules for pairs of labels

Tag = tuple[str, str]


def read(label: str) -> Tag:
    """Split a label into its prefix and its type. The prefix is empty if no scheme has it."""
    prefixed = label[:1] in tuple("BIMELSU") and label[1:2] in ("-", "_")
    return (label[0], label[2:]) if prefixed else ("", label)


@cache
def letters_of(labels: tuple[str, ...], kind: str) -> set[str]:
    """Return the prefixes of the labels of a type."""
    return {letter for letter, other in map(read, labels) if letter and other == kind}


def may_follow(labels: tuple[str, ...], before: str, after: str) -> bool:
    """Return whether two labels may be adjacent. "" is the edge of a text."""
    (letter, kind), (next_letter, next_kind) = read(before), read(after)
    opened = letter in tuple("BIM")
    if next_letter in tuple("IMEL") and "B" in letters_of(labels, next_kind):
        return opened and kind == next_kind
    return not (opened and letters_of(labels, kind) & {"E", "L"})


@cache
def neighbours(labels: tuple[str, ...]) -> np.ndarray:
    """Compute `may_follow` for all pairs. The last index is the edge of a text."""
    edged = (*labels, "")
    return np.array([[may_follow(labels, before, after) for after in edged] for before in edged])


def is_allowed(labels: tuple[str, ...], path: Sequence[int]) -> bool:
    table = neighbours(labels)
    return all(table[before, after] for before, after in pairwise([-1, *path, -1]))


@cache
def allowed_paths(labels: tuple[str, ...], length: int) -> list[tuple[int, ...]]:
    """Return all allowed paths of this length."""
    return [path for path in product(range(len(labels)), repeat=length) if is_allowed(labels, path)]


def strict_spans(labels: Sequence[str], path: Sequence[int]) -> list[tuple[int, int, str]]:
    """Return first word, last word and type of the spans of an allowed path.

    The function follows the definition of the scheme and repairs nothing.
    """
    spans: list[tuple[int, int, str]] = []
    before: Tag = ("", "O")
    for i, label in enumerate(path):
        letter, kind = read(labels[label])
        inside = letter in tuple("IMEL") and before[0] in tuple("BIM") and before[1] == kind
        if inside or (letter == "" and before == (letter, kind) and kind != "O"):
            spans[-1] = (spans[-1][0], i, kind)
        elif kind != "O":
            spans.append((i, i, kind))
        before = (letter, kind)
    return spans


# probabilities


def spread(random: np.random.Generator, n: int, width: int) -> np.ndarray:
    """Draw probabilities from uniform to almost certain."""
    logits = random.standard_normal((n, width)) * random.choice([0.3, 2.0, 6.0, 40.0], (n, 1))
    exps = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exps / exps.sum(axis=1, keepdims=True)


def tied(random: np.random.Generator, n: int, width: int) -> np.ndarray:
    """Draw few distinct values, including zero, so that many paths tie."""
    return random.choice([0.0, 0.25, 0.5, 1.0], (n, width))


def sure(random: np.random.Generator, n: int, width: int) -> np.ndarray:
    """Draw rows like those of a trained model: mostly the first label; other words are uncertain between two labels."""
    rows = np.full((n, width), 1e-4)
    rows[:, 0] = 1
    hot = np.flatnonzero(random.random(n) < 0.3)
    rows[hot, random.integers(0, width, len(hot))] = random.uniform(0.5, 4, len(hot))
    return rows / rows.sum(axis=1, keepdims=True)


Rows = Callable[[np.random.Generator, int, int], np.ndarray]
KINDS = pytest.mark.parametrize("rows", [spread, tied, sure])
SEEDS = st.integers(0, 2**32 - 1)


def draw_texts(seed: int, rows: Rows, labels: Sequence[str], longest: int) -> list[np.ndarray]:
    """Draw the probabilities of the words of a few texts. Some texts are empty."""
    random = np.random.default_rng(seed)
    return [rows(random, n, len(labels)).astype(np.float32) for n in random.integers(0, longest + 1, 6)]


def paths(texts: Sequence[np.ndarray], labels: Sequence[str]) -> list[list[int]]:
    """Return the best path of each text."""
    lengths = [len(text) for text in texts]
    path = best_path(np.concatenate(texts), np.repeat(np.arange(len(texts)), lengths), tag_rules(labels))
    return [part.tolist() for part in np.split(path, np.cumsum(lengths)[:-1])]


def logs_of(text: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(text, LEAST)).astype(np.float64)


def total(text: np.ndarray, path: Sequence[int]) -> float:
    return float(logs_of(text)[np.arange(len(path)), path].sum())


def best_total(text: np.ndarray, labels: tuple[str, ...]) -> float:
    """Compute the largest sum of an allowed path with the textbook algorithm: a table of all pairs for each word."""
    steps = np.where(neighbours(labels), 0, -np.inf)
    reached = steps[-1]  # the best sum that ends in each label, and at the edge
    for row in logs_of(text):
        reached = ((reached[:-1] + row)[:, None] + steps[:-1]).max(axis=0)
    return float(reached[-1])


# the best path


@SCHEMES
@KINDS
@settings(max_examples=20)
@given(seed=SEEDS)
def test_the_best_path_has_the_largest_sum_and_ties_depend_on_the_last_label(
    rows: Rows, labels: tuple[str, ...], seed: int
) -> None:
    texts = draw_texts(seed, rows, labels, longest=4 if len(labels) < 7 else 3)
    for text, path in zip(texts, paths(texts, labels), strict=True):
        rivals = [
            (total(text, other), [-label for label in reversed(other)]) for other in allowed_paths(labels, len(text))
        ]
        assert (total(text, path), [-label for label in reversed(path)]) == max(rivals)


@SCHEMES
@KINDS
@settings(max_examples=8)
@given(seed=SEEDS)
def test_paths_of_longer_texts_equal_the_textbook_algorithm(rows: Rows, labels: tuple[str, ...], seed: int) -> None:
    texts = draw_texts(seed, rows, labels, longest=60)
    for text, path in zip(texts, paths(texts, labels), strict=True):
        assert is_allowed(labels, path)
        assert total(text, path) == pytest.approx(best_total(text, labels), abs=EXACT)


@pytest.mark.parametrize("rows", [spread, sure])
@pytest.mark.parametrize("labels", [label_set("BI"), label_set("BIES", [str(kind) for kind in range(70)])])
def test_the_best_path_of_a_long_text_or_many_labels_equals_the_textbook_algorithm(
    rows: Rows, labels: tuple[str, ...]
) -> None:
    text = rows(np.random.default_rng(0), 200 if len(labels) > 255 else 9000, len(labels)).astype(np.float32)
    [path] = paths([text], labels)
    assert is_allowed(labels, path)
    assert total(text, path) == pytest.approx(best_total(text, labels), rel=1e-9)


@SCHEMES
@KINDS
@settings(max_examples=8)
@given(seed=SEEDS)
def test_other_texts_do_not_change_the_path_of_a_text(rows: Rows, labels: tuple[str, ...], seed: int) -> None:
    texts = draw_texts(seed, rows, labels, longest=20)
    assert paths(texts, labels) == [path for text in texts for path in paths([text], labels)]


@SCHEMES
@KINDS
@settings(max_examples=8)
@given(seed=SEEDS)
def test_the_most_likely_labels_are_the_path_if_they_break_no_rule(
    rows: Rows, labels: tuple[str, ...], seed: int
) -> None:
    texts = draw_texts(seed, rows, labels, longest=4)
    for text, path in zip(texts, paths(texts, labels), strict=True):
        likeliest = text.argmax(axis=-1).tolist()
        assert path == likeliest or not is_allowed(labels, likeliest)


@pytest.mark.parametrize("lengths", [[], [0], [0, 0]])
def test_no_words_have_no_labels(lengths: list[int]) -> None:
    labels = label_set("BI")
    text = np.repeat(np.arange(len(lengths)), lengths)
    assert best_path(np.zeros((0, len(labels)), dtype=np.float32), text, tag_rules(labels)).shape == (0,)


def test_best_path_does_not_change_the_probabilities() -> None:
    labels = label_set("BI", ["PER"])
    text = np.array([[0.0, 0.1, 0.9]], dtype=np.float32)
    assert paths([text], labels) == [[1]]
    assert text.tolist() == np.array([[0.0, 0.1, 0.9]], dtype=np.float32).tolist()


# label sets


@pytest.mark.parametrize("labels", [("O", "PER", "LOC"), ("O", "E-MAIL", "PHONE"), ("LABEL_0", "LABEL_1"), ("O",)])
def test_labels_without_a_scheme_have_no_rules(labels: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=f"expected labels of a tag scheme.*got {', '.join(labels)}"):
        tag_rules(labels)


def test_a_label_set_without_a_label_for_a_single_word_is_an_error() -> None:
    with pytest.raises(ValueError, match="expected a label for a word that stands alone.*got B-PER, E-PER"):
        tag_rules(("B-PER", "E-PER"))


# from logits to spans


def as_logits(rows: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(rows).astype(np.float32)


def spans_of(
    tokens: np.ndarray,
    lengths: Sequence[int],
    words: np.ndarray,
    labels: Sequence[str],
    how: Aggregation,
    viterbi: bool,
) -> EntitySpans:
    """Decode tokens with these probabilities. Token i covers the characters 2 i to 2 i + 1.

    words: [N], the number of each token's word.
    """
    offsets, start = offsets_of(np.array(lengths)), 2 * np.arange(len(tokens))
    rules = tag_rules(labels) if viterbi else None
    starts = word_starts(offsets, words)
    return decode(as_logits(tokens), offsets, starts, start, start + 1, detect_scheme(labels), how, rules)


def columns(spans: EntitySpans) -> list[list[float]]:
    return [part.tolist() for part in (spans.text, spans.start, spans.end, spans.label, spans.score)]


def word_rows(tokens: np.ndarray, words: np.ndarray, how: Aggregation) -> list[tuple[int, int, np.ndarray]]:
    """Return first token, last token and probabilities of each word of a text."""
    whole = how != "simple"
    edges = [0, *(i for i in range(1, len(words)) if not whole or words[i] != words[i - 1]), len(words)]
    word_list = []
    for first, stop in pairwise(edges):
        rows = softmax(as_logits(tokens[first:stop]))
        pick = {"average": rows.astype(np.float64).mean(axis=0), "max": rows[rows.max(axis=1).argmax()]}
        word_list.append((first, stop - 1, pick.get(how, rows[0])))
    return word_list


@SCHEMES
@pytest.mark.parametrize("how", AGGREGATIONS)
@settings(max_examples=8)
@given(seed=SEEDS, rows=st.sampled_from([spread, sure]))
def test_spans_follow_the_scheme_and_scores_are_of_the_best_path(
    rows: Rows, how: Aggregation, labels: tuple[str, ...], seed: int
) -> None:
    """Every span is a span of the best path of the words, by the definition of the scheme."""
    random = np.random.default_rng(seed)
    tokens = rows(random, int(random.integers(1, 25)), len(labels))
    words = np.cumsum(random.random(len(tokens)) < 0.6)
    pieces = word_rows(tokens, words, how)
    text = np.array([row for *_, row in pieces], dtype=np.float32)
    [path] = paths([text], labels)
    actual = spans_of(tokens, [len(tokens)], words, labels, how, viterbi=True)
    expected = strict_spans(labels, path)
    assert [actual.names[label] for label in actual.label] == [kind for *_, kind in expected]
    assert actual.start.tolist() == [2 * pieces[first][0] for first, *_ in expected]
    assert actual.end.tolist() == [2 * pieces[last][1] + 1 for _, last, _ in expected]
    chosen = text[np.arange(len(path)), path]
    scores = [chosen[first : last + 1].mean() for first, last, _ in expected]
    assert actual.score.tolist() == pytest.approx(scores, abs=EXACT)


@SCHEMES
@pytest.mark.parametrize("how", AGGREGATIONS)
@settings(max_examples=8)
@given(seed=SEEDS)
def test_viterbi_does_not_change_texts_that_break_no_rule(how: Aggregation, labels: tuple[str, ...], seed: int) -> None:
    """All bits are equal. The last text breaks a rule, if its scheme has rules."""
    random = np.random.default_rng(seed)
    lengths = random.integers(1, 5, 6)
    texts = [allowed_paths(labels, n) for n in lengths]
    path = [label for some in texts for label in some[random.integers(len(some))]]
    tokens = spread(random, len(path), len(labels))
    tokens[np.arange(len(path)), path] += 2
    tokens /= tokens.sum(axis=1, keepdims=True)
    broken = np.eye(len(labels))[[next((i for i, label in enumerate(labels) if label[0] in "IME"), 0)]]
    both = np.concatenate([tokens, broken])
    words = np.arange(len(both))
    plain, best = (spans_of(both, [*lengths, 1], words, labels, how, viterbi) for viterbi in (False, True))
    assert columns(plain.take(plain.text < 6)) == columns(best.take(best.text < 6))


def one_text(labels: Sequence[str], *rows: dict[str, float], viterbi: bool) -> list[tuple[int, int, str, float]]:
    """Return first word, last word, name and score of each span. A label without a probability gets 1e-6."""
    tokens = np.array([[row.get(label, 1e-6) for label in labels] for row in rows])
    spans = spans_of(tokens, [len(rows)], np.arange(len(rows)), labels, "first", viterbi)
    span_columns = zip(*columns(spans)[1:], strict=True)
    return [(int(a) // 2, int(b) // 2, spans.names[int(name)], round(score, 2)) for a, b, name, score in span_columns]


def test_an_inside_tag_without_a_begin_tag_begins_a_span_or_is_removed() -> None:
    labels = label_set("BI", ["PER"])
    likely = ({"O": 1.0}, {"I-PER": 0.6, "B-PER": 0.3, "O": 0.1}, {"I-PER": 0.9, "O": 0.1})
    assert one_text(labels, *likely, viterbi=False) == [(1, 2, "PER", 0.75)]
    assert one_text(labels, *likely, viterbi=True) == [(1, 2, "PER", 0.6)]
    unlikely = ({"O": 1.0}, {"I-PER": 0.6, "O": 0.4}, {"O": 1.0})
    assert one_text(labels, *unlikely, viterbi=False) == [(1, 1, "PER", 0.6)]
    assert one_text(labels, *unlikely, viterbi=True) == []


def test_a_span_with_changing_types_gets_one_type() -> None:
    labels = label_set("BI")
    rows = ({"B-PER": 0.9, "B-LOC": 0.1}, {"I-LOC": 0.6, "I-PER": 0.4}, {"I-PER": 0.8, "I-LOC": 0.2})
    assert one_text(labels, *rows, viterbi=False) == [(0, 0, "PER", 0.9), (1, 1, "LOC", 0.6), (2, 2, "PER", 0.8)]
    assert one_text(labels, *rows, viterbi=True) == [(0, 2, "PER", 0.7)]


def test_a_span_without_an_end_tag_gets_one() -> None:
    labels = label_set("BIES", ["LOC"])
    rows = ({"B-LOC": 1.0}, {"I-LOC": 0.6, "E-LOC": 0.4}, {"O": 1.0})
    assert one_text(labels, *rows, viterbi=False) == [(0, 1, "LOC", 0.8)]
    assert one_text(labels, *rows, viterbi=True) == [(0, 1, "LOC", 0.7)]
    begun = {"B-LOC": 0.7, "S-LOC": 0.3}
    assert one_text(labels, begun, viterbi=False) == [(0, 0, "LOC", 0.7)]
    assert one_text(labels, begun, viterbi=True) == [(0, 0, "LOC", 0.3)]


def test_an_inside_tag_may_start_a_span_if_its_type_has_no_begin_tag() -> None:
    rows = ({"O": 1.0}, {"I-PER": 0.6, "O": 0.4}, {"I-LOC": 0.6, "B-LOC": 0.4})
    assert one_text(LABELS["IOB1"], *rows, viterbi=True) == [(1, 1, "PER", 0.6), (2, 2, "LOC", 0.4)]

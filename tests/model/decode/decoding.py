"""Helpers for the tests of the token decoder: small cases, and a reference decoder with conlleval's rules."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from distilray.model.arrays import offsets_of
from distilray.model.decode.scores import softmax
from distilray.model.decode.token_classification import (
    Aggregation,
    EntitySpans,
    TagScheme,
    decode,
    detect_scheme,
    hf_scheme,
)

AGGREGATIONS: tuple[Aggregation, ...] = ("none", "simple", "first", "average", "max")
KINDS = ("PER", "LOC")
# the letters of each scheme, and the letters of conlleval with the same meaning
SCHEMES = {"IO": "I", "IOB2": "BI", "BIOES": "BIES", "BILOU": "BILU", "BMES": "BMES"}
CONLLEVAL = {"B": "B", "I": "I", "M": "I", "E": "E", "L": "E", "S": "S", "U": "S"}

Span = tuple[int, int, str]


@dataclass(frozen=True)
class Case:
    """R texts with N tokens in total: logits [N, L] and the other arguments of `decode`."""

    labels: tuple[str, ...]
    logits: np.ndarray
    lengths: list[int]
    starts_word: list[bool]
    start: list[int]
    end: list[int]

    @property
    def offsets(self) -> np.ndarray:
        return offsets_of(np.array(self.lengths, dtype=np.int64))

    def decode(self, scheme: TagScheme, aggregation: Aggregation) -> EntitySpans:
        arrays = (self.starts_word, self.start, self.end)
        starts_word, start, end = (
            np.array(x, dtype=t) for x, t in zip(arrays, (bool, np.int32, np.int32), strict=True)
        )
        return decode(self.logits, self.offsets, starts_word, start, end, scheme, aggregation)


def spans_of(spans: EntitySpans, text: int = 0) -> list[Span]:
    """Return start, end and label of the spans of one text."""
    columns = (column.tolist() for column in (spans.text, spans.start, spans.end, spans.label))
    return [(start, end, spans.names[label]) for t, start, end, label in zip(*columns, strict=True) if t == text]


def one_text(
    labels: Sequence[str],
    probabilities: Sequence[Sequence[float]],
    starts_word: Sequence[bool] | None = None,
    characters: Sequence[Span] | Sequence[tuple[int, int]] | None = None,
) -> Case:
    """Make a case of one text from the probabilities of its tokens.

    By default every token is a word of one character.
    """
    n = len(probabilities)
    places = [(2 * i, 2 * i + 1) for i in range(n)] if characters is None else characters
    with np.errstate(divide="ignore"):
        logits = np.log(np.array(probabilities, dtype=np.float32).reshape(n, len(labels)))
    words = [True] * n if starts_word is None else list(starts_word)
    return Case(tuple(labels), logits, [n], words, [place[0] for place in places], [place[1] for place in places])


def tagged(labels: Sequence[str], tags: str) -> Case:
    """Make a case of one text with one token per tag. Each tag has probability 1."""
    return one_text(labels, [[float(label == tag) for label in labels] for tag in tags.split()])


def detected_spans(labels: Sequence[str], tags: str) -> list[Span]:
    return spans_of(tagged(labels, tags).decode(detect_scheme(labels), "simple"))


def hf_spans(labels: Sequence[str], tags: str) -> list[Span]:
    return spans_of(tagged(labels, tags).decode(hf_scheme(labels), "simple"))


def label_set(letters: str, kinds: Sequence[str] = KINDS, dash: str = "-") -> tuple[str, ...]:
    return ("O", *(f"{letter}{dash}{kind}" for kind in kinds for letter in letters))


# the reference


def start_of_chunk(previous: str, letter: str, previous_kind: str, kind: str) -> bool:
    """Return whether a chunk starts, by the rules of startOfChunk in conlleval.pl."""
    if letter in ("B", "S"):
        return True
    if previous in ("E", "S", "O") and letter in ("E", "I"):
        return True
    return letter != "O" and previous_kind != kind


def end_of_chunk(previous: str, letter: str, previous_kind: str, kind: str) -> bool:
    """Return whether a chunk ends, by the rules of endOfChunk in conlleval.pl."""
    if previous in ("E", "S"):
        return True
    if previous in ("B", "I") and letter in ("B", "S", "O"):
        return True
    return previous != "O" and previous_kind != kind


def chunks(tags: list[tuple[str, str]]) -> list[tuple[int, int, str]]:
    """Return first, last and kind of each chunk of (letter, kind) tags."""
    tag_chunks = []
    first = None
    for i, (letter, kind) in enumerate([*tags, ("O", "")]):
        previous, previous_kind = tags[i - 1] if i else ("O", "")
        if first is not None and end_of_chunk(previous, letter, previous_kind, kind):
            tag_chunks.append((first, i - 1, previous_kind))
            first = None
        if i < len(tags) and start_of_chunk(previous, letter, previous_kind, kind):
            first = i
    return tag_chunks


def words_of(case: Case, first: int, length: int, aggregation: Aggregation) -> list[tuple[list[int], int, float]]:
    """Return the tokens, label and score of each word of a text. For "none" and "simple", each token is a word."""
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
    """Return the spans of each text."""
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
    """Draw texts whose words have a few tokens, with gaps between the words.

    The logits are small enough that rounding does not make two averages equal.
    """
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

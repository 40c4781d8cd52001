"""Helpers for the tests of answer decoding: small windows of contexts, and answers as plain lists."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from distilray.model.decode.question_answering import QuestionWindows, RankedAnswers, hf_candidates, hf_merge

Answer = tuple[int, int, float]  # start, end, score

SCORE = 1e-6


@dataclass(frozen=True)
class Context:
    """Tokens of one context.

    start, end: [T], character offsets. word_ids: [T].
    """

    start: np.ndarray
    end: np.ndarray
    word_ids: np.ndarray

    @property
    def tokens(self) -> int:
        return len(self.start)


@dataclass(frozen=True)
class Window:
    """Tokens first..last-1 of a context and their logits.

    start, end: [last - first], the start and end logits. null: the start and end logit of [CLS].
    """

    context: Context
    first: int
    last: int
    start: np.ndarray
    end: np.ndarray
    null: tuple[float, float] = (0.0, 0.0)


Asks = Sequence[Sequence[Window]]


def words(sizes: Sequence[int]) -> Context:
    """Make a context from the number of tokens per word. A token has two characters, and a space follows each word."""
    word_ids = np.repeat(np.arange(len(sizes)), sizes)
    start = 2 * np.arange(len(word_ids)) + word_ids
    return Context(start, start + 2, word_ids)


def joined(asks: Asks) -> QuestionWindows:
    """Concatenate the windows of all asks. The numbers of the asks are multiples of ten, since gaps are allowed."""
    every = [(10 * number, window) for number, ask in enumerate(asks) for window in ask]

    def floats(parts: list[Any]) -> np.ndarray:
        return np.concatenate([np.zeros(0), *parts]).astype(np.float32)

    def tokens(name: str) -> np.ndarray:
        parts = [getattr(w.context, name)[w.first : w.last] for _, w in every]
        return np.concatenate([np.zeros(0, dtype=np.int32), *parts]).astype(np.int32)

    return QuestionWindows(
        ask=np.array([number for number, _ in every], dtype=np.int64),
        lengths=np.array([w.last - w.first for _, w in every], dtype=np.int64),
        start_logits=floats([w.start for _, w in every]),
        end_logits=floats([w.end for _, w in every]),
        null_start=floats([w.null[:1] for _, w in every]),
        null_end=floats([w.null[1:] for _, w in every]),
        start=tokens("start"),
        end=tokens("end"),
        word_ids=tokens("word_ids"),
    )


def listed(answers: RankedAnswers) -> dict[int, list[Answer]]:
    """Return the answers of each ask that has any, best first."""
    answers_by_ask: dict[int, list[Answer]] = {}
    columns = (column.tolist() for column in (answers.ask, answers.start, answers.end, answers.score))
    for ask, start, end, score in zip(*columns, strict=True):
        answers_by_ask.setdefault(ask // 10, []).append((start, end, score))
    return answers_by_ask


def hf(
    windows: QuestionWindows, texts: Sequence[str], *, null: bool = False, **options: Any
) -> dict[int, list[Answer]]:
    """Decode answers by Transformers' rules. texts: the context of each ask."""
    candidates, nulls = hf_candidates(windows, **options)
    columns = (column.tolist() for column in (candidates.ask, candidates.start, candidates.end))
    lower = [texts[ask // 10][start:end].lower() for ask, start, end in zip(*columns, strict=True)]
    ids = {text: i for i, text in enumerate(dict.fromkeys(lower))}
    key = np.array([ids[text] for text in lower], dtype=np.int64)
    return listed(hf_merge(candidates, key, nulls if null else None, top_k=options.get("top_k", 1)))


def spans(answers: Sequence[Answer]) -> list[tuple[int, int]]:
    return [(start, end) for start, end, _ in answers]


def peak(
    context: Context, at: tuple[int, int], height: float, null: float = 0.0, first: int = 0, last: int = 0
) -> Window:
    """Make a window with one likely span.

    at: the first and last token of the span. height: its start logit and its end logit. All other logits are -10.
    """
    last = last or context.tokens
    start, end = np.full((2, last - first), -10.0)
    start[at[0] - first], end[at[1] - first] = height, height
    return Window(context, first, last, start, end, (null, null))

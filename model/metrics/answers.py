"""Metrics of question answering: exact match and F1 by SQuAD 2.0 (Rajpurkar et al., 2018; spec: docs/tasks.md).

The words of an answer are those that remain after lower-casing, removal of ASCII punctuation, and removal of the words
a, an and the. Exact match means the same words in the same order. F1 is that of the two bags of words.

The scores of an answer are those against its best gold. Golds without words are omitted. A question without any gold
that has words has the gold "". If the answer or the gold has no words, F1 is 1 if both have none, and else 0.

The rules of SQuAD 1.1 give the same metrics if every gold has a word. Version 1.1 keeps a gold without words ("The",
"..."), and gives an answer without words exact match 1, but F1 0.
"""

import re
import string
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from distilray.model.arrays import Ints, offsets_of, ragged_ranges
from distilray.model.errors import MetricError
from distilray.model.metrics.exact import Floats, exact_sum, exact_value

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_SPACES = re.compile(r"[^\S\n]{2,}|[^\S\n ]")  # all white space except single spaces
_GROUPS = ("HasAns", "NoAns")


def normalise(texts: pa.Array) -> pa.Array:
    """Return the words of each answer with one space between them: string [N].

    All answers pass through Python's string functions in one text, one line each. Arrow's functions for lower case,
    word boundaries and white space have slightly different rules.
    """
    if not len(texts):
        return pa.array([], pa.string())
    lines = "\n".join(pc.replace_substring(texts, "\n", " ").to_pylist())
    words = _SPACES.sub(" ", _ARTICLES.sub(" ", lines.lower().translate(_NO_PUNCTUATION)))
    return pa.array(words.replace(" \n", "\n").replace("\n ", "\n").strip(" ").split("\n"), pa.string())


def count(gold: pa.Array, predicted: pa.Array) -> dict[str, Any]:
    """Return {HasAns, NoAns: {total, exact, f1}}, for rows with and without a gold answer.

    gold: list<string> [R], an empty list for a question without an answer. predicted: string [R], "" for no answer.
    Raises MetricError for nulls, and for different numbers of rows.
    """
    exact, f1 = row_scores(gold, predicted)
    answerable = pc.list_value_length(gold).to_numpy() > 0
    return {
        group: {"total": int(rows.sum()), "exact": int(exact[rows].sum()), "f1": exact_sum(f1[rows])}
        for group, rows in zip(_GROUPS, (answerable, ~answerable), strict=True)
    }


def figures(counts: dict[str, Any]) -> dict[str, Any]:
    """Return {exact, f1, total, HasAns_exact, ..., NoAns_total}, in percent, as SQuAD's evaluation prints them.

    A group without rows is omitted. Without any rows, exact and f1 are None.
    """
    groups = [counts[group] for group in _GROUPS if group in counts]
    by_group = {
        f"{group}_{key}": value
        for group in _GROUPS
        if counts.get(group, {}).get("total")
        for key, value in _percent([counts[group]]).items()
    }
    return {**_percent(groups), **by_group}


def row_scores(gold: pa.Array, predicted: pa.Array) -> tuple[npt.NDArray[np.bool_], Floats]:
    """Return exact match, bool [R], and F1, float64 [R], of each row with its best gold.

    The parameters are those of `count`.
    """
    golds = gold.flatten()
    if len(gold) != len(predicted) or gold.null_count or golds.null_count or predicted.null_count:
        raise MetricError(
            f"expected a list of golds and an answer per row, without nulls, got {len(gold)} lists ({gold.null_count} "
            f"null) of {len(golds)} golds ({golds.null_count} null), and {len(predicted)} answers "
            f"({predicted.null_count} null)"
        )
    texts = normalise(pa.concat_arrays([predicted.cast(pa.string()), golds.cast(pa.string())]))
    text_number = texts.dictionary_encode().indices.to_numpy()
    word, starts, sizes = _words(texts)
    row = np.repeat(np.arange(len(predicted)), pc.list_value_length(gold).to_numpy())
    gold_index = np.flatnonzero(sizes[len(predicted) :] > 0) + len(predicted)  # golds that have words
    row = row[gold_index - len(predicted)]
    pair_f1 = _f1(word, starts, sizes, row, gold_index)
    has_no_words = sizes[: len(predicted)] == 0
    exact = has_no_words & ~np.isin(np.arange(len(predicted)), row)  # against the gold ""
    f1 = exact.astype(np.float64)
    np.logical_or.at(exact, row, text_number[row] == text_number[gold_index])
    np.maximum.at(f1, row, pair_f1)
    return exact, f1


def _words(texts: pa.Array) -> tuple[Ints, Ints, Ints]:
    """Return a number for each word of all texts, end to end, and the first word and the number of words of each text."""
    words = pc.split_pattern(texts, " ")
    sizes = np.where(pc.equal(texts, "").to_numpy(zero_copy_only=False), 0, pc.list_value_length(words).to_numpy())
    all_words = words.flatten()
    numbers = all_words.filter(pc.not_equal(all_words, "")).dictionary_encode().indices.to_numpy()
    return numbers, offsets_of(sizes)[:-1], sizes


def _f1(word: Ints, starts: Ints, sizes: Ints, a: Ints, b: Ints) -> Floats:
    """Return the F1 of the bags of words of texts a[i] and b[i], float64 [len(a)]; 0 if either has no words."""
    word_count = int(word.max(initial=0)) + 1

    def bags(texts: Ints) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return one number for each distinct word of each pair, and the number of its occurrences."""
        pair = np.repeat(np.arange(len(texts)), sizes[texts])
        indices = ragged_ranges(starts[texts], sizes[texts])
        return np.unique(pair * word_count + word[indices], return_counts=True)

    (of_a, times_a), (of_b, times_b) = bags(a), bags(b)
    shared, in_a, in_b = np.intersect1d(of_a, of_b, assume_unique=True, return_indices=True)
    common = np.bincount(shared // word_count, np.minimum(times_a[in_a], times_b[in_b]), minlength=len(a))
    f1: npt.NDArray[np.float64] = 2 * common / np.maximum(sizes[a] + sizes[b], 1)
    return f1


def _percent(groups: list[dict[str, Any]]) -> dict[str, Any]:
    total = sum(group["total"] for group in groups)
    exact, f1 = sum(group["exact"] for group in groups), sum(exact_value(group["f1"]) for group in groups)
    return {
        "exact": 100 * exact / total if total else None,
        "f1": float(100 * f1 / total) if total else None,
        "total": total,
    }

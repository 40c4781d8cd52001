"""Question answering: exact match and F1 by the rules of SQuAD 2.0 (Rajpurkar et al., 2018; spec: docs/tasks.md).

An answer's words are what is left after lower-casing, dropping ASCII punctuation, then the words a, an and the. Exact:
the same words in the same order. F1: of the two bags of words. Each answer counts with its best gold; golds without any
word are left out, and a question left without gold has the gold "". Where either side has no words, F1 is equality.

SQuAD 1.1's rules give the same figures as long as every gold has a word. Where one has none ("The", "..."), 1.1 keeps
it, and gives an answer without words exact 1, but F1 0.
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
_SPACES = re.compile(r"[^\S\n]{2,}|[^\S\n ]")  # all but what is one blank already
_GROUPS = ("HasAns", "NoAns")


def normalise(texts: pa.Array) -> pa.Array:
    """The words of each answer with one space between them: string [N].

    All answers go through Python's own string functions at once, a line each: Arrow's lower-case, word boundaries and
    white space are not quite the same.
    """
    if not len(texts):
        return pa.array([], pa.string())
    lines = "\n".join(pc.replace_substring(texts, "\n", " ").to_pylist())
    words = _SPACES.sub(" ", _ARTICLES.sub(" ", lines.lower().translate(_NO_PUNCTUATION)))
    return pa.array(words.replace(" \n", "\n").replace("\n ", "\n").strip(" ").split("\n"), pa.string())


def count(gold: pa.Array, found: pa.Array) -> dict[str, Any]:
    """{HasAns, NoAns: {total, exact, f1}}, rows with and without a gold answer.

    gold: list<string> [R], an empty list for a question without an answer; found: string [R], "" for no answer.
    Raises MetricError for nulls, and for different numbers of rows.
    """
    exact, f1 = row_scores(gold, found)
    answerable = pc.list_value_length(gold).to_numpy() > 0
    return {
        group: {"total": int(rows.sum()), "exact": int(exact[rows].sum()), "f1": exact_sum(f1[rows])}
        for group, rows in zip(_GROUPS, (answerable, ~answerable), strict=True)
    }


def figures(counts: dict[str, Any]) -> dict[str, Any]:
    """{exact, f1, total, HasAns_exact, ..., NoAns_total}, in percent, as SQuAD's evaluation prints them.

    A group without rows is left out; of no rows at all exact and f1 are None.
    """
    groups = [counts[group] for group in _GROUPS if group in counts]
    shown = {
        f"{group}_{key}": value
        for group in _GROUPS
        if counts.get(group, {}).get("total")
        for key, value in _percent([counts[group]]).items()
    }
    return {**_percent(groups), **shown}


def row_scores(gold: pa.Array, found: pa.Array) -> tuple[npt.NDArray[np.bool_], Floats]:
    """Exact match, bool [R], and F1, float64 [R], of each row with its best gold; arguments as for `count`."""
    flat = gold.flatten()
    if len(gold) != len(found) or gold.null_count or flat.null_count or found.null_count:
        raise MetricError(
            f"expected a list of golds and an answer a row, none of them null: got {len(gold)} lists ({gold.null_count} "
            f"null) of {len(flat)} golds ({flat.null_count} null), and {len(found)} answers ({found.null_count} null)"
        )
    texts = normalise(pa.concat_arrays([found.cast(pa.string()), flat.cast(pa.string())]))
    same = texts.dictionary_encode().indices.to_numpy()
    word, starts, sizes = _words(texts)
    row = np.repeat(np.arange(len(found)), pc.list_value_length(gold).to_numpy())
    at = np.flatnonzero(sizes[len(found) :] > 0) + len(found)  # golds with words
    row = row[at - len(found)]
    pairs = _f1(word, starts, sizes, row, at)
    wordless = sizes[: len(found)] == 0
    exact = wordless & ~np.isin(np.arange(len(found)), row)  # against the gold ""
    f1 = exact.astype(np.float64)
    np.logical_or.at(exact, row, same[row] == same[at])
    np.maximum.at(f1, row, pairs)
    return exact, f1


def _words(texts: pa.Array) -> tuple[Ints, Ints, Ints]:
    """A number for each word, all texts' end to end; where each text's words start, and how many there are."""
    words = pc.split_pattern(texts, " ")
    sizes = np.where(pc.equal(texts, "").to_numpy(zero_copy_only=False), 0, pc.list_value_length(words).to_numpy())
    flat = words.flatten()
    number = flat.filter(pc.not_equal(flat, "")).dictionary_encode().indices.to_numpy()
    return number, offsets_of(sizes)[:-1], sizes


def _f1(word: Ints, starts: Ints, sizes: Ints, a: Ints, b: Ints) -> Floats:
    """F1 of the bags of words of texts a[i] and b[i]: float64 [len(a)]; 0 if either has no words."""
    words = int(word.max(initial=0)) + 1

    def bags(texts: Ints) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Each pair's different words, as one number, and how often each occurs."""
        pair = np.repeat(np.arange(len(texts)), sizes[texts])
        at = ragged_ranges(starts[texts], sizes[texts])
        return np.unique(pair * words + word[at], return_counts=True)

    (of_a, times_a), (of_b, times_b) = bags(a), bags(b)
    shared, in_a, in_b = np.intersect1d(of_a, of_b, assume_unique=True, return_indices=True)
    common = np.bincount(shared // words, np.minimum(times_a[in_a], times_b[in_b]), minlength=len(a))
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

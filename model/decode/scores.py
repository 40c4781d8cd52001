"""Logits to probabilities and ranked choices."""

from typing import Literal

import numpy as np

from distilray.model.arrays import Floats, Ints, offsets_of, ragged_arange
from distilray.model.network.config import ProblemType

# how logits become scores; "none" leaves them as they are
Function = Literal["softmax", "sigmoid", "none"]


def apply(function: Function, logits: Floats) -> Floats:
    """Scores of logits [N, L], in float32."""
    match function:
        case "softmax":
            return softmax(logits)
        case "sigmoid":
            return sigmoid(logits)
        case "none":
            return logits.astype(np.float32)


def softmax(logits: Floats) -> Floats:
    """Over the last of two axes, in float32."""
    exps = logits.T.astype(np.float32, order="C", copy=True)  # numpy reduces a short last axis slowly
    exps -= exps.max(axis=0, initial=-np.inf)
    np.exp(exps, out=exps)
    exps /= exps.sum(axis=0)
    return np.ascontiguousarray(exps.T)


def sigmoid(logits: Floats) -> Floats:
    """1 / (1 + e^-x), without overflow."""
    e = np.exp(-np.abs(logits.astype(np.float32)))
    out: Floats = (np.where(logits >= 0, 1, e) / (1 + e)).astype(np.float32)
    return out


def ragged_softmax(logits: Floats, counts: Ints) -> Floats:
    """Within each group of `counts` neighbours; logits: [sum(counts)]."""
    counts = counts[counts > 0]
    if not len(counts):
        return logits.astype(np.float32)
    first = offsets_of(counts)[:-1]
    exps = np.exp(logits - np.repeat(np.maximum.reduceat(logits, first), counts))
    out: Floats = (exps / np.repeat(np.add.reduceat(exps, first), counts)).astype(np.float32)
    return out


def ranked(scores: Floats, most: int | None) -> Ints:
    """int64 [N, k]: the `most` best of each row's L scores, best first, ties in order; None: all."""
    return np.argsort(-scores, axis=-1, kind="stable")[:, :most].astype(np.int64)


def ranked_ragged(scores: Floats, counts: Ints, most: int | None) -> tuple[Ints, Ints]:
    """The `most` best of each group of `counts` neighbours, best first, ties in order, and how many each group has."""
    group = np.repeat(np.arange(len(counts)), counts)
    order = np.lexsort((-scores, group))
    nth = ragged_arange(counts)
    kept = order if most is None else order[nth < most]
    return kept, counts if most is None else np.minimum(counts, most)


def best_in_groups(scores: Floats, counts: Ints) -> Ints:
    """Return the index, among all scores, of the best of each group of `counts` neighbours."""
    return ranked_ragged(scores, counts, 1)[0]


def label_decisions(logits: Floats, problem: ProblemType) -> Ints:
    """Return what logits [N, L] decide: the best label [N, 1], a yes or no for each label [N, L], or nothing [N, 0]."""
    if problem == "multi_label_classification":
        return (logits > 0).astype(np.int64)
    if problem == "regression" or logits.shape[1] == 1:
        return no_decisions(logits)
    return best_label(logits)


def best_label(logits: Floats) -> Ints:
    """Return the best label of each row, [N, 1]; logits: [N, L]."""
    best: Ints = logits.argmax(axis=1)
    return best[:, None]


def no_decisions(logits: Floats) -> Ints:
    """Return no decision for each of N rows, [N, 0]."""
    return np.empty((len(logits), 0), dtype=np.int64)

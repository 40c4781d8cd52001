"""Conversion of logits to probabilities and to ranked choices."""

from typing import Literal

import numpy as np

from distilray.model.arrays import Floats, Ints, offsets_of, ragged_arange
from distilray.model.network.config import ProblemType

# how logits become scores; "none" returns the logits
Function = Literal["softmax", "sigmoid", "none"]


def apply(function: Function, logits: Floats) -> Floats:
    """Convert logits [N, L] to scores in float32."""
    match function:
        case "softmax":
            return softmax(logits)
        case "sigmoid":
            return sigmoid(logits)
        case "none":
            return logits.astype(np.float32)


def softmax(logits: Floats) -> Floats:
    """Compute the softmax over the last of two axes, in float32."""
    exps = logits.T.astype(np.float32, order="C", copy=True)  # numpy is slow at reductions over a short last axis
    exps -= exps.max(axis=0, initial=-np.inf)
    np.exp(exps, out=exps)
    exps /= exps.sum(axis=0)
    return np.ascontiguousarray(exps.T)


def sigmoid(logits: Floats) -> Floats:
    """Compute 1 / (1 + e^-x) without overflow."""
    e = np.exp(-np.abs(logits.astype(np.float32)))
    out: Floats = (np.where(logits >= 0, 1, e) / (1 + e)).astype(np.float32)
    return out


def ragged_softmax(logits: Floats, counts: Ints) -> Floats:
    """Compute the softmax within each group of `counts` neighbours. logits: [sum(counts)]."""
    counts = counts[counts > 0]
    if not len(counts):
        return logits.astype(np.float32)
    first = offsets_of(counts)[:-1]
    exps = np.exp(logits - np.repeat(np.maximum.reduceat(logits, first), counts))
    out: Floats = (exps / np.repeat(np.add.reduceat(exps, first), counts)).astype(np.float32)
    return out


def ranked(scores: Floats, count: int | None) -> Ints:
    """Return the indices of the `count` best of each row's L scores, best first: int64 [N, k].

    Equal scores stay in order. A `count` of None returns all.
    """
    return np.argsort(-scores, axis=-1, kind="stable")[:, :count].astype(np.int64)


def ranked_ragged(scores: Floats, counts: Ints, count: int | None) -> tuple[Ints, Ints]:
    """Return the indices of the `count` best of each group of `counts` neighbours, best first, and the sizes.

    The sizes are the number of returned indices of each group. Equal scores stay in order. A `count` of None returns
    all.
    """
    group = np.repeat(np.arange(len(counts)), counts)
    order = np.lexsort((-scores, group))
    rank = ragged_arange(counts)
    best = order if count is None else order[rank < count]
    return best, counts if count is None else np.minimum(counts, count)


def best_in_groups(scores: Floats, counts: Ints) -> Ints:
    """Return the index, among all scores, of the best score of each group of `counts` neighbours."""
    return ranked_ragged(scores, counts, 1)[0]


def label_decisions(logits: Floats, problem: ProblemType) -> Ints:
    """Return the decisions of logits [N, L].

    With a single label, the decision is the best label: [N, 1]. With multiple labels, it is 1 or 0 for each label:
    [N, L]. A regression, or a single output, has no decisions: [N, 0].
    """
    if problem == "multi_label_classification":
        return (logits > 0).astype(np.int64)
    if problem == "regression" or logits.shape[1] == 1:
        return no_decisions(logits)
    return best_label(logits)


def best_label(logits: Floats) -> Ints:
    """Return the best label of each row, [N, 1]. logits: [N, L]."""
    best: Ints = logits.argmax(axis=1)
    return best[:, None]


def no_decisions(logits: Floats) -> Ints:
    """Return an array [N, 0], which means that rows have no decisions."""
    return np.empty((len(logits), 0), dtype=np.int64)

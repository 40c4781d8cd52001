"""Metrics of fill-mask: perplexity, and the shares of gold tokens that are the first, or among the first five, answers."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from distilray.model.arrays import Ints
from distilray.model.metrics import losses
from distilray.model.metrics.exact import Floats
from distilray.model.metrics.labelled import labelled

_TOPS = (1, 5)


def ranks(logits: Floats, gold: Ints) -> npt.NDArray[np.int64]:
    """Return the rank of the gold token among the answers, from 0: int64 [tokens with gold].

    Of equal logits the lower id comes first. logits: [N, V]. gold: [N], -100 for a token without gold, which gets no
    rank.
    """
    rows = np.flatnonzero(labelled(gold, np.full(len(logits), logits.shape[1])))
    logits, gold = logits[rows], gold[rows]
    gold_logits = logits[np.arange(len(rows)), gold][:, None]
    is_before = (logits > gold_logits) | ((logits == gold_logits) & (np.arange(logits.shape[1]) < gold[:, None]))
    rank: npt.NDArray[np.int64] = is_before.sum(axis=1)
    return rank


def count(nll: losses.Terms, rank: Ints) -> dict[str, Any]:
    """Return the sums over the masks that have gold.

    nll: [N], from losses.cross_entropy. rank: [N], from ranks.
    """
    hits = {f"top{k}": int((rank < k).sum()) for k in _TOPS}
    return {**losses.count(nll=nll), **hits}


def figures(counts: dict[str, Any]) -> dict[str, Any]:
    """Return {tokens, loss, perplexity, top1, top5}. Perplexity is exp(loss); top1 and top5 are shares of the tokens.

    Without tokens, all values except `tokens` are None. A perplexity beyond float64 is None; the loss is then a number.
    """
    tokens = counts.get("nll", {}).get("count", 0)
    loss = losses.figures({"nll": counts["nll"]})["loss"] if tokens else None
    return {
        "tokens": tokens,
        "loss": loss,
        "perplexity": math.exp(loss) if loss is not None and loss < math.log(np.finfo(np.float64).max) else None,
        **{f"top{k}": counts[f"top{k}"] / tokens if tokens else None for k in _TOPS},
    }

"""Fill-mask: perplexity, and how often the hidden token is the first of the answers, or among the first five."""

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
    """Place of the gold token among the answers, from 0; of equals the lower id comes first.

    logits: [N, V]; gold: [N], -100 for a token without gold, which gets no place. Returns int64 [tokens with gold].
    """
    rows = np.flatnonzero(labelled(gold, np.full(len(logits), logits.shape[1])))
    logits, gold = logits[rows], gold[rows]
    own = logits[np.arange(len(rows)), gold][:, None]
    before = (logits > own) | ((logits == own) & (np.arange(logits.shape[1]) < gold[:, None]))
    place: npt.NDArray[np.int64] = before.sum(axis=1)
    return place


def count(nll: losses.Terms, rank: Ints) -> dict[str, Any]:
    """Sums over the masks that have gold. nll: [N], from losses.cross_entropy; rank: [N], from ranks."""
    hits = {f"top{k}": int((rank < k).sum()) for k in _TOPS}
    return {**losses.count(nll=nll), **hits}


def figures(counts: dict[str, Any]) -> dict[str, Any]:
    """{tokens, loss, perplexity, top1, top5}: perplexity is exp(loss); top1 and top5 are shares of the tokens.

    None of no tokens; and for a perplexity past float64, whose loss tells.
    """
    tokens = counts.get("nll", {}).get("count", 0)
    loss = losses.figures({"nll": counts["nll"]})["loss"] if tokens else None
    return {
        "tokens": tokens,
        "loss": loss,
        "perplexity": math.exp(loss) if loss is not None and loss < math.log(np.finfo(np.float64).max) else None,
        **{f"top{k}": counts[f"top{k}"] / tokens if tokens else None for k in _TOPS},
    }

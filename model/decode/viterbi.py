"""The best sequence of labels that a tag scheme allows (Viterbi 1967, doi:10.1109/TIT.1967.1054010).

What may follow a label needs no L x L table: a label that continues a span follows one of the few labels that open its
type, and all other labels follow whatever may end a span. A step of the recursion so costs about L, not L x L.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from distilray.model.arrays import Bools, Floats, Ints, offsets_of, ragged_arange, ragged_ranges, run_lengths
from distilray.model.decode.tags import split_labels

_LEAST = np.finfo(np.float32).tiny  # a probability of 0 is this
_SLACK = 1e-3  # more than rounding adds to a sum of three logarithms


@dataclass(frozen=True)
class TagRules:
    """What each of L labels may stand beside, [L] each.

    tag: int64, equal for labels of one type; follows: only after a label that `opens` its type; unfinished: only before
    a label that `follows` with its type.
    """

    tag: npt.NDArray[np.int64]
    opens: Bools
    follows: Bools
    unfinished: Bools

    @property
    def alone(self) -> Bools:
        """Whether a label may stand between any others, at the start and at the end."""
        return ~self.follows & ~self.unfinished

    def allows(self, before: Ints, after: Ints) -> Bools:
        """Whether label `after` may follow label `before`, element by element."""
        continued = self.opens[before] & (self.tag[before] == self.tag[after])
        allowed: Bools = np.where(self.follows[after], continued, ~self.unfinished[before])
        return allowed


def tag_rules(labels: Sequence[str]) -> TagRules:
    """The rules of the labels' own scheme, type by type.

    I, M, E and L continue B, I or M of their type; if a type has E or L, its B, I and M must be continued. I and M of a
    type without B may start, as in IO. Labels without a prefix are like O. IOB1 looks like IOB2 and is read as that,
    which is wrong for a checkpoint that starts spans with I although it knows B.
    Raises ValueError for labels without a scheme, and for labels of which none may stand alone (O, S, U): no path might
    exist.
    """
    split = split_labels(labels)
    if not any(prefix for prefix, _ in split):
        raise ValueError(f"expected labels of a tag scheme, such as B-PER and I-PER, got {', '.join(labels)}")
    begun, ended = ({kind for prefix, kind in split if prefix and prefix in letters} for letters in ("B", "EL"))
    opens = np.array([prefix in ("B", "I", "M") for prefix, _ in split])
    follows = np.array([prefix in ("I", "M", "E", "L") and kind in begun for prefix, kind in split])
    unfinished = opens & np.array([kind in ended for _, kind in split])
    tag = np.unique(np.array([kind for _, kind in split]), return_inverse=True)[1]
    rules = TagRules(tag, opens, follows, unfinished)
    if not rules.alone.any():
        raise ValueError(f"expected a label for a word that stands alone, as O or S-PER, got {', '.join(labels)}")
    return rules


def best_path(probabilities: Floats, text: Ints, rules: TagRules) -> npt.NDArray[np.int64]:
    """int64 [N]: of the label sequences that the rules allow, one with the largest sum of log-probabilities, by text.

    probabilities: [N, L], of words; text: [N], the text of each, non-decreasing. A text whose words' likeliest labels
    break no rule gets just these.
    """
    label: npt.NDArray[np.int64] = probabilities.argmax(axis=-1)
    words = np.flatnonzero(_in_broken(label, text, rules))
    if len(words):
        logs = np.array(probabilities[words].T, order="C")  # numpy reduces a short last axis slowly
        np.log(np.maximum(logs, _LEAST, out=logs), out=logs)
        piece = _pieces(logs, label[words], text[words], rules)
        hard = np.flatnonzero(_in_broken(label[words], piece, rules))
        order, steps = _by_step(piece[hard])
        label[words[hard[order]]] = _recursion(logs.take(hard[order], axis=1), steps, rules)
    return label


def _in_broken(label: Ints, piece: Ints, rules: TagRules) -> Bools:
    """[N]: whether the labels of the word's text, or piece of a text, break a rule."""
    sizes = run_lengths(piece)[1]
    if not len(sizes):
        return np.zeros(0, dtype=np.bool_)
    edges = offsets_of(sizes)
    wrong = np.zeros(len(label), dtype=np.bool_)
    wrong[1:] = ~rules.allows(label[:-1], label[1:])
    wrong[edges[:-1]] = rules.follows[label[edges[:-1]]]
    wrong[edges[1:] - 1] |= rules.unfinished[label[edges[1:] - 1]]
    return np.repeat(np.logical_or.reduceat(wrong, edges[:-1]), sizes)


def _pieces(logs: Floats, label: Ints, text: Ints, rules: TagRules) -> npt.NDArray[np.int64]:
    """int64 [N]: texts cut into pieces that can be labelled apart, numbered. logs: [L, N]; label: each word's likeliest.

    A word whose label may stand alone starts a piece if every best path has that label there, and the next word starts
    another if that label opens nothing. Take a path with another label, put this one in its place, and let the
    neighbours end and start the spans that it broke: the path is allowed, and better if the word gains more than the
    neighbours lose. What they lose at most is known without a path.
    """
    within = text[1:] == text[:-1]
    lost = np.full(len(text), _SLACK, dtype=np.float32)
    lost[:-1] += within * _most_lost(logs, rules.follows, rules.opens, rules)[1:]
    lost[1:] += within * _most_lost(logs, rules.unfinished, rules.follows, rules)[:-1]
    others = np.where(label == np.arange(len(logs))[:, None], -np.inf, logs).max(axis=0)
    sure = rules.alone[label] & (logs.max(axis=0) - others > lost)
    new = np.ones(len(text), dtype=np.bool_)
    new[1:] = ~within | sure[1:] | (sure & ~rules.opens[label])[:-1]
    piece: npt.NDArray[np.int64] = np.cumsum(new)
    return piece


def _most_lost(logs: Floats, bound: Bools, keeps: Bools, rules: TagRules) -> Floats:
    """[N]: what a word loses at most if a `bound` label gives way to one that is not, and goes with all that its own
    other side goes with: one of its type that `keeps` that side too, or else one that may stand alone.

    logs: [L, N]; bound, keeps: [L].
    """
    alone = logs[rules.alone].max(axis=0)
    lost: Floats = np.zeros_like(alone)
    for label in np.flatnonzero(bound):
        same = keeps & ~bound & (rules.tag == rules.tag[label])
        instead = logs[same].max(axis=0) if keeps[label] else alone
        np.maximum(lost, logs[label] - instead, out=lost)
    return lost


def _by_step(piece: Ints) -> tuple[Ints, list[slice]]:
    """The words [N] in the order of the recursion, and the part of them that each step takes.

    All pieces step together: their first words come first, then their second words; the longest piece leads.
    """
    lengths = run_lengths(piece)[1]
    order = np.argsort(-lengths, kind="stable")
    step = ragged_arange(lengths[order])
    words = ragged_ranges(offsets_of(lengths)[order], lengths[order])[np.argsort(step, kind="stable")]
    return words, [slice(a, b) for a, b in pairwise(offsets_of(np.bincount(step)).tolist())]


def _recursion(logs: Floats, steps: list[slice], rules: TagRules) -> npt.NDArray[np.int64]:
    """int64 [N]: labels. logs: [L, N]; each step has the words of the pieces not ended yet, in the order of the first.

    Of equal paths that one wins whose last label that differs has the lower index.
    """
    enders, openers, source = _sources(rules)
    best = np.zeros((openers.shape[1] + 1, logs.shape[1]), dtype=np.min_scalar_type(len(logs)))
    total = np.where(rules.follows[:, None], -np.inf, logs[:, steps[0]].astype(np.float64))
    for at in steps[1:]:
        ongoing = total[:, : at.stop - at.start]
        ended, opened = ongoing.take(enders, axis=0), ongoing.take(openers, axis=0)
        best[0, at] = ended.argmax(axis=0)
        reached = np.concatenate((ended.max(axis=0, keepdims=True), opened[0]))
        for i in range(1, len(opened)):  # two: argmax is slow over so few
            best[1:, at][opened[i] > reached[1:]] = i
            np.maximum(reached[1:], opened[i], out=reached[1:])
        ongoing[:] = reached.take(source, axis=0) + logs[:, at]
    for row, labels in zip(best, (enders, *openers.T), strict=True):
        row[:] = labels[row]  # which label came before, by source of the label that follows
    current = enders[total.take(enders, axis=0).argmax(axis=0)]
    path = np.empty(logs.shape[1], dtype=np.int64)
    for at in reversed(steps):
        count = at.stop - at.start
        path[at] = current[:count]
        current[:count] = best[source[path[at]], np.arange(at.start, at.stop)]
    return path


def _sources(rules: TagRules) -> tuple[Ints, Ints, Ints]:
    """Labels that may end a span [E] or stand outside; labels that open each type that others follow [openers, types];
    and which of the 1 + types lists a label [L] comes after."""
    types = np.unique(rules.tag[rules.follows])
    lists = [np.flatnonzero(rules.opens & (rules.tag == tag)) for tag in types]
    width = max(len(labels) for labels in lists)
    openers = np.stack([np.resize(labels, width) for labels in lists], axis=1)
    source = np.where(rules.follows, 1 + np.searchsorted(types, rules.tag), 0)
    return np.flatnonzero(~rules.unfinished), openers, source

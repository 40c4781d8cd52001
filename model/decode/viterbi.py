"""The best sequence of labels that a tag scheme allows (Viterbi 1967, doi:10.1109/TIT.1967.1054010).

No L x L table of transitions is needed. A label that continues a span follows one of the few labels that open its type.
Every other label follows any label that may end a span. A step of the recursion therefore costs about L, not L x L.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from distilray.model.arrays import Bools, Floats, Ints, offsets_of, ragged_arange, ragged_ranges, run_lengths
from distilray.model.decode.tags import split_labels

_MIN_PROBABILITY = np.finfo(np.float32).tiny  # replaces a probability of 0
_SLACK = 1e-3  # more than rounding adds to a sum of three logarithms


@dataclass(frozen=True)
class TagRules:
    """The allowed neighbours of each of L labels, [L] each.

    tag: int64, equal for labels of one type. opens: whether the next label may continue the span of this label.
    follows: whether this label must follow a label of its type that `opens`. unfinished: whether this label must be
    followed by a label of its type that `follows`.
    """

    tag: npt.NDArray[np.int64]
    opens: Bools
    follows: Bools
    unfinished: Bools

    @property
    def alone(self) -> Bools:
        """Whether a label is allowed between any other labels, at the start, and at the end."""
        return ~self.follows & ~self.unfinished

    def allows(self, before: Ints, after: Ints) -> Bools:
        """Return whether label `after` may follow label `before`, element by element."""
        continued = self.opens[before] & (self.tag[before] == self.tag[after])
        allowed: Bools = np.where(self.follows[after], continued, ~self.unfinished[before])
        return allowed


def tag_rules(labels: Sequence[str]) -> TagRules:
    """Return the rules of the labels' scheme, type by type.

    I, M, E and L continue B, I or M of their type. If a type has E or L, its B, I and M must be continued. I and M of a
    type without B may start a span, as in IO. Labels without a prefix are treated as O.

    IOB1 has the same labels as IOB2 and is read as IOB2. This is wrong for a checkpoint that starts spans with I
    although it has B.

    Raises ValueError for labels without a scheme, and for labels of which none may be alone (O, S, U), because no path
    might exist.
    """
    prefixed = split_labels(labels)
    if not any(prefix for prefix, _ in prefixed):
        raise ValueError(f"expected labels of a tag scheme, such as B-PER and I-PER, got {', '.join(labels)}")
    begun_types, ended_types = (
        {label_type for prefix, label_type in prefixed if prefix and prefix in letters} for letters in ("B", "EL")
    )
    opens = np.array([prefix in ("B", "I", "M") for prefix, _ in prefixed])
    follows = np.array(
        [prefix in ("I", "M", "E", "L") and label_type in begun_types for prefix, label_type in prefixed]
    )
    unfinished = opens & np.array([label_type in ended_types for _, label_type in prefixed])
    tag = np.unique(np.array([label_type for _, label_type in prefixed]), return_inverse=True)[1]
    rules = TagRules(tag, opens, follows, unfinished)
    if not rules.alone.any():
        raise ValueError(f"expected a label for a word that stands alone, such as O or S-PER, got {', '.join(labels)}")
    return rules


def best_path(probabilities: Floats, text: Ints, rules: TagRules) -> npt.NDArray[np.int64]:
    """Return the labels of the allowed sequence with the largest sum of log-probabilities of each text, int64 [N].

    probabilities: [N, L], of words. text: [N], the text of each word, non-decreasing. A text whose
    most probable labels break no rule gets these labels.
    """
    label: npt.NDArray[np.int64] = probabilities.argmax(axis=-1)
    words = np.flatnonzero(_breaks_rules(label, text, rules))
    if len(words):
        logs = np.array(probabilities[words].T, order="C")  # numpy is slow at reductions over a short last axis
        np.log(np.maximum(logs, _MIN_PROBABILITY, out=logs), out=logs)
        pieces = _pieces(logs, label[words], text[words], rules)
        unsolved = np.flatnonzero(_breaks_rules(label[words], pieces, rules))
        order, steps = _step_order(pieces[unsolved])
        label[words[unsolved[order]]] = _viterbi(logs.take(unsolved[order], axis=1), steps, rules)
    return label


def _breaks_rules(label: Ints, piece: Ints, rules: TagRules) -> Bools:
    """Return for each word whether the labels of its piece break a rule: [N].

    piece: [N], the number of the text, or of the piece of a text, that holds each word.
    """
    sizes = run_lengths(piece)[1]
    if not len(sizes):
        return np.zeros(0, dtype=np.bool_)
    edges = offsets_of(sizes)
    breaks = np.zeros(len(label), dtype=np.bool_)
    breaks[1:] = ~rules.allows(label[:-1], label[1:])
    breaks[edges[:-1]] = rules.follows[label[edges[:-1]]]
    breaks[edges[1:] - 1] |= rules.unfinished[label[edges[1:] - 1]]
    return np.repeat(np.logical_or.reduceat(breaks, edges[:-1]), sizes)


def _pieces(logs: Floats, label: Ints, text: Ints, rules: TagRules) -> npt.NDArray[np.int64]:
    """Cut texts into numbered pieces that can be labelled independently: int64 [N].

    logs: [L, N]. label: the most probable label of each word.

    A word whose label may be alone starts a piece if every best path has that label there. The next word starts another
    piece if that label opens nothing.

    No search is needed to show this. Take a path with another label at the word. Replace that label with the most
    probable label of the word, and let the neighbours end and start the spans that the new label interrupts. The new
    path is allowed. The new path is better if the word gains more than the neighbours lose. `_max_loss` gives an upper
    bound of what the neighbours lose on any path.
    """
    within = text[1:] == text[:-1]
    max_loss = np.full(len(text), _SLACK, dtype=np.float32)
    max_loss[:-1] += within * _max_loss(logs, rules.follows, rules.opens, rules)[1:]
    max_loss[1:] += within * _max_loss(logs, rules.unfinished, rules.follows, rules)[:-1]
    runner_up = np.where(label == np.arange(len(logs))[:, None], -np.inf, logs).max(axis=0)
    is_certain = rules.alone[label] & (logs.max(axis=0) - runner_up > max_loss)
    starts_piece = np.ones(len(text), dtype=np.bool_)
    starts_piece[1:] = ~within | is_certain[1:] | (is_certain & ~rules.opens[label])[:-1]
    piece: npt.NDArray[np.int64] = np.cumsum(starts_piece)
    return piece


def _max_loss(logs: Floats, constrained: Bools, keeps: Bools, rules: TagRules) -> Floats:
    """Return an upper bound of what each word loses if an unconstrained label replaces a constrained one: [N].

    A constrained label needs a neighbour of its type on one side of the word. Its replacement must be allowed beside
    every neighbour on the other side that allows the constrained label. If the constrained label may have a neighbour
    of its type on the other side, the replacement is a label of this type for which the same holds. Otherwise it is a
    label that may be alone.

    logs: [L, N]. constrained: [L]. keeps: [L], whether a label may have a neighbour of its type on the other side.
    """
    alone = logs[rules.alone].max(axis=0)
    loss: Floats = np.zeros_like(alone)
    for label in np.flatnonzero(constrained):
        replacements = keeps & ~constrained & (rules.tag == rules.tag[label])
        replacement_score = logs[replacements].max(axis=0) if keeps[label] else alone
        np.maximum(loss, logs[label] - replacement_score, out=loss)
    return loss


def _step_order(piece: Ints) -> tuple[Ints, list[slice]]:
    """Return the words [N] in the order of the recursion, and the slice of this order that each step takes.

    All pieces advance together: first their first words, then their second words, and so on. The longest piece comes
    first.
    """
    lengths = run_lengths(piece)[1]
    order = np.argsort(-lengths, kind="stable")
    step = ragged_arange(lengths[order])
    words = ragged_ranges(offsets_of(lengths)[order], lengths[order])[np.argsort(step, kind="stable")]
    return words, [slice(a, b) for a, b in pairwise(offsets_of(np.bincount(step)).tolist())]


def _viterbi(logs: Floats, steps: list[slice], rules: TagRules) -> npt.NDArray[np.int64]:
    """Return the labels of the best paths, int64 [N].

    logs: [L, N]. steps: each is a slice with one word of every piece that has not ended, in the order of the
    first step. Of equal
    paths, the result is the one with the lower index at the last label that differs.
    """
    enders, openers, source = _sources(rules)
    best = np.zeros((openers.shape[1] + 1, logs.shape[1]), dtype=np.min_scalar_type(len(logs)))
    total = np.where(rules.follows[:, None], -np.inf, logs[:, steps[0]].astype(np.float64))
    for step in steps[1:]:
        active = total[:, : step.stop - step.start]
        end_scores, open_scores = active.take(enders, axis=0), active.take(openers, axis=0)
        best[0, step] = end_scores.argmax(axis=0)
        best_score = np.concatenate((end_scores.max(axis=0, keepdims=True), open_scores[0]))
        for i in range(1, len(open_scores)):  # a loop of one or two steps, because argmax is slow on few rows
            best[1:, step][open_scores[i] > best_score[1:]] = i
            np.maximum(best_score[1:], open_scores[i], out=best_score[1:])
        active[:] = best_score.take(source, axis=0) + logs[:, step]
    for row, labels in zip(best, (enders, *openers.T), strict=True):
        row[:] = labels[row]  # the previous label, by source of the label after it
    current = enders[total.take(enders, axis=0).argmax(axis=0)]
    path = np.empty(logs.shape[1], dtype=np.int64)
    for step in reversed(steps):
        count = step.stop - step.start
        path[step] = current[:count]
        current[:count] = best[source[path[step]], np.arange(step.start, step.stop)]
    return path


def _sources(rules: TagRules) -> tuple[Ints, Ints, Ints]:
    """Return the lists of labels that other labels may follow.

    The first result is list 0: the labels that may end a span or lie outside all spans, [E]. The second result holds
    one list for each type that can be continued: the labels that open the type, [openers, types]. The third result is
    the number of the list that each label follows, [L].
    """
    types = np.unique(rules.tag[rules.follows])
    openers_by_type = [np.flatnonzero(rules.opens & (rules.tag == tag)) for tag in types]
    width = max(len(labels) for labels in openers_by_type)
    openers = np.stack([np.resize(labels, width) for labels in openers_by_type], axis=1)
    source = np.where(rules.follows, 1 + np.searchsorted(types, rules.tag), 0)
    return np.flatnonzero(~rules.unfinished), openers, source

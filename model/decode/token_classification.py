"""Token logits to entity spans, by our rules and by Transformers' (spec: docs/tasks.md)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from distilray.model.decode.scores import softmax
from distilray.model.decode.tags import split_labels
from distilray.model.decode.viterbi import TagRules, best_path
from distilray.model.packed import Bools, Floats, Ints, offsets_of, ragged_arange
from distilray.model.windows import word_starts

Aggregation = Literal["none", "simple", "first", "average", "max"]


@dataclass(frozen=True)
class TagScheme:
    """What each of L labels means for grouping. tag, name: int64 [L]; starts, ends, outside: bool [L].

    Neighbours belong together if they have the same tag, the first does not end a span and the second does not
    start one. A span is called names[name of its first label].
    """

    tag: npt.NDArray[np.int64]
    name: npt.NDArray[np.int64]
    starts: Bools
    ends: Bools
    outside: Bools
    names: tuple[str, ...]

    @property
    def entity_names(self) -> list[str]:
        """What a span can be called."""
        return sorted({self.names[name] for name in self.name[~self.outside]})


@dataclass(frozen=True)
class Spans:
    """E entities in order of text. text: int64 [E]; start, end: int32, characters; label: int64 index into names."""

    text: npt.NDArray[np.int64]
    start: npt.NDArray[np.int32]
    end: npt.NDArray[np.int32]
    label: npt.NDArray[np.int64]
    score: Floats
    names: tuple[str, ...]

    def take(self, which: Ints | Bools) -> "Spans":
        """The chosen entities, by mask or by index."""
        return Spans(
            self.text[which], self.start[which], self.end[which], self.label[which], self.score[which], self.names
        )


def detect_scheme(labels: Sequence[str]) -> TagScheme:
    """Our scheme for a label set: prefixes are stripped only if they are those of one known scheme.

    conlleval's repair rules: B and S (U) start a span, E (L) and S (U) end one, a change of type starts one.
    """
    split = split_labels(labels)
    return _scheme(
        tags=[tag for _, tag in split],
        names=[tag for _, tag in split],
        starts=[prefix in ("B", "S", "U") for prefix, _ in split],
        ends=[prefix in ("E", "L", "S", "U") for prefix, _ in split],
        outside=[label == "O" for label in labels],
    )


def hf_scheme(labels: Sequence[str]) -> TagScheme:
    """Transformers' scheme: only "B-" and "I-" are prefixes, yet a span's name is what follows the first dash."""
    names = [label.split("-", 1)[-1] for label in labels]
    return _scheme(
        tags=[label[2:] if label.startswith(("B-", "I-")) else label for label in labels],
        names=names,
        starts=[label.startswith("B-") for label in labels],
        ends=[False] * len(labels),
        outside=[name == "O" for name in names],
    )


def token_scheme(labels: Sequence[str]) -> TagScheme:
    """For aggregation "none": every token that is not O is an entity under its whole label."""
    every = [True] * len(labels)
    return _scheme(tags=labels, names=labels, starts=every, ends=every, outside=[label == "O" for label in labels])


def _scheme(
    tags: Sequence[str], names: Sequence[str], starts: list[bool], ends: list[bool], outside: list[bool]
) -> TagScheme:
    distinct, name = np.unique(np.array(names), return_inverse=True)
    # an O never belongs to a type that happens to be called O
    tag = np.unique(np.array([f"{out}{tag}" for out, tag in zip(outside, tags, strict=True)]), return_inverse=True)[1]
    return TagScheme(
        tag, name, np.array(starts), np.array(ends), np.array(outside), tuple(str(label) for label in distinct)
    )


def decode(
    logits: Floats,
    offsets: Ints,
    starts_word: Bools,
    start: Ints,
    end: Ints,
    scheme: TagScheme,
    aggregation: Aggregation,
    rules: TagRules | None = None,
) -> Spans:
    """Entities of R texts whose N tokens lie end to end.

    logits: [N, L]; offsets: [R + 1]; starts_word: [N], true at least at each text's first token;
    start, end: [N], characters. rules: labels by the best path that these allow; None: of each token (or word) alone.
    A span's score is the mean of its tokens' (or words') probabilities.
    """
    if not len(logits):
        empty = np.zeros(0, dtype=np.int32)
        return Spans(
            empty.astype(np.int64), empty, empty, empty.astype(np.int64), empty.astype(np.float32), scheme.names
        )
    text = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    probabilities = softmax(logits)
    if aggregation in ("none", "simple"):
        first = last = np.arange(len(logits))
    else:
        first = np.flatnonzero(starts_word)
        last = np.append(first[1:], len(logits)) - 1
        probabilities = _word_probabilities(probabilities, first, aggregation)
    label = probabilities.argmax(axis=-1) if rules is None else best_path(probabilities, text[first], rules)
    score = np.take_along_axis(probabilities, label[:, None], axis=-1)[:, 0]
    new = _new_group(text[first], label, scheme)
    head = np.flatnonzero(new)
    tail = np.append(head[1:], len(new)) - 1
    mean = np.add.reduceat(score, head, dtype=np.float64) / (tail - head + 1)
    spans = Spans(
        text[first[head]],
        start[first[head]].astype(np.int32),
        end[last[tail]].astype(np.int32),
        scheme.name[label[head]],
        mean.astype(np.float32),
        scheme.names,
    )
    return spans.take(~scheme.outside[label[head]])


def _word_probabilities(probabilities: Floats, first: Ints, aggregation: Aggregation) -> Floats:
    """[words, L] of tokens' [N, L]; first: [words], index of each word's first token."""
    if aggregation == "first":
        return probabilities[first]
    counts = np.diff(np.append(first, len(probabilities)))
    if aggregation == "average":
        mean = np.add.reduceat(probabilities, first, axis=0) / counts[:, None]
        return mean.astype(np.float32)
    best = probabilities.max(axis=-1)
    is_best = np.flatnonzero(best == np.repeat(np.maximum.reduceat(best, first), counts))
    word_of_best = np.repeat(np.arange(len(first)), counts)[is_best]
    return probabilities[is_best[np.searchsorted(word_of_best, np.arange(len(first)))]]


def _new_group(text: Ints, label: Ints, scheme: TagScheme) -> Bools:
    new: Bools = np.ones(len(label), dtype=np.bool_)
    before, after = label[:-1], label[1:]
    new[1:] = (
        (text[1:] != text[:-1]) | (scheme.tag[before] != scheme.tag[after]) | scheme.starts[after] | scheme.ends[before]
    )
    return new


def above(spans: Spans, threshold: float, by_label: Mapping[str, float]) -> Spans:
    """The spans whose score reaches their label's threshold."""
    limits = np.array([by_label.get(name, threshold) for name in spans.names], dtype=np.float32)
    return spans.take(spans.score >= limits[spans.label])


def hf_word_starts(offsets: Ints, input_ids: Ints, chars: Ints, token_chars: Ints, unk_id: int) -> Bools:
    """Transformers' guess at word starts: the token's string is as long as the text it covers, or it is [UNK].

    chars: [N], length of the text that each token covers; token_chars: [vocabulary].
    """
    guess = (token_chars[input_ids] == chars) | (input_ids == unk_id)
    starts: Bools = guess | word_starts(offsets, np.zeros(len(input_ids), dtype=np.int8))
    return starts


def hf_merge_windows(spans: Spans, text_of_window: npt.NDArray[np.int64]) -> Spans:
    """Transformers' merge of spans decoded window by window (spans.text counts windows).

    Within a text in order of start: a span that starts inside the last kept one replaces it if it is longer, or as
    long and scored higher, whatever the labels; otherwise it is dropped.
    """
    text = text_of_window[spans.text]
    order = np.lexsort((spans.start, text))  # stable
    spans = Spans(text, spans.start, spans.end, spans.label, spans.score, spans.names).take(order)
    cluster = _overlap_clusters(spans, windowed=np.bincount(text_of_window)[spans.text] > 1)
    sizes = np.bincount(cluster) if len(cluster) else np.zeros(0, dtype=np.int64)
    nth = ragged_arange(sizes)
    kept = offsets_of(sizes)[:-1].copy()  # the span last kept in each cluster
    closed = []
    # clusters are a few spans each: this walks along the longest one, over all clusters at once
    for i in range(1, int(sizes.max(initial=0))):
        rival = np.flatnonzero(nth == i)
        c = cluster[rival]
        mine = kept[c]
        inside = spans.start[rival] < spans.end[mine]
        length, kept_length = spans.end[rival] - spans.start[rival], spans.end[mine] - spans.start[mine]
        wins = (length > kept_length) | ((length == kept_length) & (spans.score[rival] > spans.score[mine]))
        closed.append(mine[~inside])
        kept[c] = np.where(~inside | wins, rival, mine)
    return spans.take(np.sort(np.concatenate([*closed, kept])))


def _overlap_clusters(spans: Spans, windowed: Bools) -> npt.NDArray[np.int64]:
    """int64 [E]: a new cluster starts where no earlier span of the text reaches. spans: sorted by text, start.

    windowed: [E], whether the text has several windows; Transformers merges nothing in the others.
    """
    if not len(spans.start):
        return np.zeros(0, dtype=np.int64)
    height = int(spans.end.max(initial=0)) + 1
    reach = np.maximum.accumulate(spans.text * height + spans.end)
    first = np.ones(len(spans.start), dtype=np.bool_)
    first[1:] = spans.text[1:] * height + spans.start[1:] >= reach[:-1]
    first |= ~windowed
    return np.cumsum(first) - 1

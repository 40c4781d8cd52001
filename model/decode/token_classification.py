"""Decoding of token logits into entity spans, by the rules of distilray or of Transformers (spec: docs/tasks.md)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from distilray.model.arrays import Bools, Floats, Ints
from distilray.model.decode.scores import softmax
from distilray.model.decode.tags import split_labels
from distilray.model.decode.viterbi import TagRules, best_path
from distilray.model.inference.windows import word_starts

Aggregation = Literal["none", "simple", "first", "average", "max"]


@dataclass(frozen=True)
class TagScheme:
    """The meaning of each of L labels for the grouping of tokens.

    tag, name: int64 [L]. starts, ends, outside: bool [L]. Neighbours belong to one span if they have the same tag, the
    first does not end a span, and the second does not start one. The name of a span is
    that of its first label: names[name[label]].
    """

    tag: npt.NDArray[np.int64]
    name: npt.NDArray[np.int64]
    starts: Bools
    ends: Bools
    outside: Bools
    names: tuple[str, ...]

    @property
    def entity_names(self) -> list[str]:
        """The possible names of a span, sorted."""
        return sorted({self.names[name] for name in self.name[~self.outside]})


@dataclass(frozen=True)
class EntitySpans:
    """E entities in order of text.

    text: int64 [E]. start, end: int32 [E], in characters. label: int64 [E], an index into names. score: float32 [E].
    """

    text: npt.NDArray[np.int64]
    start: npt.NDArray[np.int32]
    end: npt.NDArray[np.int32]
    label: npt.NDArray[np.int64]
    score: Floats
    names: tuple[str, ...]

    def take(self, which: Ints | Bools) -> "EntitySpans":
        """Return the entities of a mask or of indices."""
        return EntitySpans(
            self.text[which], self.start[which], self.end[which], self.label[which], self.score[which], self.names
        )


def detect_scheme(labels: Sequence[str]) -> TagScheme:
    """Return the scheme of distilray for some labels. Prefixes are removed only if all of them belong to one known scheme.

    Repairs follow conlleval: B and S (U) start a span, E (L) and S (U) end one, and a change of type starts one.
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
    """Return Transformers' scheme.

    Only "B-" and "I-" are prefixes, but the name of a span is the part after the first dash.
    """
    names = [label.split("-", 1)[-1] for label in labels]
    return _scheme(
        tags=[label[2:] if label.startswith(("B-", "I-")) else label for label in labels],
        names=names,
        starts=[label.startswith("B-") for label in labels],
        ends=[False] * len(labels),
        outside=[name == "O" for name in names],
    )


def token_scheme(labels: Sequence[str]) -> TagScheme:
    """Return the scheme of aggregation "none": every token that is not O is an entity named by its whole label."""
    all_true = [True] * len(labels)
    return _scheme(
        tags=labels, names=labels, starts=all_true, ends=all_true, outside=[label == "O" for label in labels]
    )


def _scheme(
    tags: Sequence[str], names: Sequence[str], starts: list[bool], ends: list[bool], outside: list[bool]
) -> TagScheme:
    distinct, name = np.unique(np.array(names), return_inverse=True)
    # O must not share a tag with a type that is named O
    tag = np.unique(
        np.array([f"{is_outside}{tag}" for is_outside, tag in zip(outside, tags, strict=True)]), return_inverse=True
    )[1]
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
) -> EntitySpans:
    """Return the entities of R texts whose N tokens lie end to end.

    logits: [N, L]. offsets: [R + 1]. starts_word: [N], true at least at the first token of each text. start, end: [N],
    in characters. rules: the allowed neighbours; the labels are those of the best path that they allow. None means
    that each token (or word) has its most probable label. The score of a span is the mean probability of its tokens (or words).
    """
    probabilities = softmax(logits)
    if needs_only_best_label(aggregation, rules):
        label = probabilities.argmax(axis=-1)
        return decode_best(
            label, _label_scores(probabilities, label), offsets, starts_word, start, end, scheme, aggregation
        )
    first = _first_tokens(starts_word, aggregation)
    if aggregation == "average":
        words = _word_means(probabilities, first)
    else:
        words = probabilities[_representatives(probabilities.max(axis=-1, initial=0), first, aggregation)]
    label = words.argmax(axis=-1) if rules is None else best_path(words, _text_of(offsets)[first], rules)
    return _spans(label, _label_scores(words, label), first, offsets, start, end, scheme)


def needs_only_best_label(aggregation: Aggregation, rules: TagRules | None) -> bool:
    """Return whether decoding uses only the most probable label of each token and its probability."""
    return rules is None and aggregation != "average"


def decode_best(
    label: Ints,
    score: Floats,
    offsets: Ints,
    starts_word: Bools,
    start: Ints,
    end: Ints,
    scheme: TagScheme,
    aggregation: Aggregation,
) -> EntitySpans:
    """Return the entities from the most probable label of each token and its probability, [N] each.

    The result is that of `decode`, for parameters with which `needs_only_best_label` is true.
    """
    first = _first_tokens(starts_word, aggregation)
    representative = _representatives(score, first, aggregation)
    return _spans(label[representative], score[representative], first, offsets, start, end, scheme)


def _spans(
    label: Ints, score: Floats, first: Ints, offsets: Ints, start: Ints, end: Ints, scheme: TagScheme
) -> EntitySpans:
    """Join neighbouring words that belong together.

    label, score, first: [words]. first: the first token of each word.
    """
    if not len(first):
        empty = np.zeros(0, dtype=np.int32)
        return EntitySpans(
            empty.astype(np.int64), empty, empty, empty.astype(np.int64), empty.astype(np.float32), scheme.names
        )
    text = _text_of(offsets)[first]
    last = np.append(first[1:], len(start)) - 1
    is_start = _starts_group(text, label, scheme)
    group_start = np.flatnonzero(is_start)
    group_end = np.append(group_start[1:], len(is_start)) - 1
    mean = np.add.reduceat(score, group_start, dtype=np.float64) / (group_end - group_start + 1)
    spans = EntitySpans(
        text[group_start].astype(np.int64),
        start[first[group_start]].astype(np.int32),
        end[last[group_end]].astype(np.int32),
        scheme.name[label[group_start]],
        mean.astype(np.float32),
        scheme.names,
    )
    return spans.take(~scheme.outside[label[group_start]])


def _text_of(offsets: Ints) -> Ints:
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def _first_tokens(starts_word: Bools, aggregation: Aggregation) -> Ints:
    """Return the first token of each word. Without aggregation over words, each token is a word."""
    return np.arange(len(starts_word)) if aggregation in ("none", "simple") else np.flatnonzero(starts_word)


def _representatives(score: Floats, first: Ints, aggregation: Aggregation) -> Ints:
    """Return the token that decides each word: the first, or for "max" the first of those with the highest score."""
    if aggregation != "max" or not len(first):
        return first
    counts = np.diff(np.append(first, len(score)))
    is_best = np.flatnonzero(score == np.repeat(np.maximum.reduceat(score, first), counts))
    word_of_best = np.repeat(np.arange(len(first)), counts)[is_best]
    return is_best[np.searchsorted(word_of_best, np.arange(len(first)))]


def _word_means(probabilities: Floats, first: Ints) -> Floats:
    """Return the means [words, L] of the probabilities [N, L] of tokens."""
    if not len(first):
        return probabilities
    mean = np.add.reduceat(probabilities, first, axis=0) / np.diff(np.append(first, len(probabilities)))[:, None]
    return mean.astype(np.float32)


def _label_scores(probabilities: Floats, label: Ints) -> Floats:
    """Return the probability of each row's label."""
    scores: Floats = np.take_along_axis(probabilities, label[:, None], axis=-1)[:, 0]
    return scores


def _starts_group(text: Ints, label: Ints, scheme: TagScheme) -> Bools:
    starts: Bools = np.ones(len(label), dtype=np.bool_)
    before, after = label[:-1], label[1:]
    starts[1:] = (
        (text[1:] != text[:-1]) | (scheme.tag[before] != scheme.tag[after]) | scheme.starts[after] | scheme.ends[before]
    )
    return starts


def above_threshold(spans: EntitySpans, threshold: float, by_label: Mapping[str, float]) -> EntitySpans:
    """Return the spans whose score is at least the threshold of their label."""
    limits = np.array([by_label.get(name, threshold) for name in spans.names], dtype=np.float32)
    return spans.take(spans.score >= limits[spans.label])


def hf_word_starts(offsets: Ints, input_ids: Ints, chars: Ints, token_chars: Ints, unk_id: int) -> Bools:
    """Return the word starts that Transformers assumes.

    A token starts a word if its string is as long as the text that it covers, or if it is [UNK]. chars: [N], the length
    of the text that each token covers. token_chars: [vocabulary].
    """
    looks_like_start = (token_chars[input_ids] == chars) | (input_ids == unk_id)
    starts: Bools = looks_like_start | word_starts(offsets, np.zeros(len(input_ids), dtype=np.int8))
    return starts

"""Token logits to entity spans, by our rules and by Transformers' (spec: docs/tasks.md)."""

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
class EntitySpans:
    """E entities in order of text. text: int64 [E]; start, end: int32, characters; label: int64 index into names."""

    text: npt.NDArray[np.int64]
    start: npt.NDArray[np.int32]
    end: npt.NDArray[np.int32]
    label: npt.NDArray[np.int64]
    score: Floats
    names: tuple[str, ...]

    def take(self, which: Ints | Bools) -> "EntitySpans":
        """The chosen entities, by mask or by index."""
        return EntitySpans(
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
) -> EntitySpans:
    """Entities of R texts whose N tokens lie end to end.

    logits: [N, L]; offsets: [R + 1]; starts_word: [N], true at least at each text's first token;
    start, end: [N], characters. rules: labels by the best path that these allow; None: of each token (or word) alone.
    A span's score is the mean of its tokens' (or words') probabilities.
    """
    probabilities = softmax(logits)
    if best_is_enough(aggregation, rules):
        label = probabilities.argmax(axis=-1)
        return decode_best(label, _chosen(probabilities, label), offsets, starts_word, start, end, scheme, aggregation)
    first = _firsts(starts_word, aggregation)
    if aggregation == "average":
        words = _averages(probabilities, first)
    else:
        words = probabilities[_speakers(probabilities.max(axis=-1, initial=0), first, aggregation)]
    label = words.argmax(axis=-1) if rules is None else best_path(words, _text_of(offsets)[first], rules)
    return _spans(label, _chosen(words, label), first, offsets, start, end, scheme)


def best_is_enough(aggregation: Aggregation, rules: TagRules | None) -> bool:
    """Whether the likeliest label of each token and its probability are all that decoding looks at."""
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
    """As `decode`, of each token's likeliest label and its probability, [N] each, where that is enough."""
    first = _firsts(starts_word, aggregation)
    speaker = _speakers(score, first, aggregation)
    return _spans(label[speaker], score[speaker], first, offsets, start, end, scheme)


def _spans(
    label: Ints, score: Floats, first: Ints, offsets: Ints, start: Ints, end: Ints, scheme: TagScheme
) -> EntitySpans:
    """Neighbouring words that belong together; label, score, first: [words], first: the first token of each."""
    if not len(first):
        empty = np.zeros(0, dtype=np.int32)
        return EntitySpans(
            empty.astype(np.int64), empty, empty, empty.astype(np.int64), empty.astype(np.float32), scheme.names
        )
    text = _text_of(offsets)[first]
    last = np.append(first[1:], len(start)) - 1
    new = _new_group(text, label, scheme)
    head = np.flatnonzero(new)
    tail = np.append(head[1:], len(new)) - 1
    mean = np.add.reduceat(score, head, dtype=np.float64) / (tail - head + 1)
    spans = EntitySpans(
        text[head].astype(np.int64),
        start[first[head]].astype(np.int32),
        end[last[tail]].astype(np.int32),
        scheme.name[label[head]],
        mean.astype(np.float32),
        scheme.names,
    )
    return spans.take(~scheme.outside[label[head]])


def _text_of(offsets: Ints) -> Ints:
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def _firsts(starts_word: Bools, aggregation: Aggregation) -> Ints:
    """The first token of each word; each token is one, where tokens are not joined."""
    return np.arange(len(starts_word)) if aggregation in ("none", "simple") else np.flatnonzero(starts_word)


def _speakers(score: Floats, first: Ints, aggregation: Aggregation) -> Ints:
    """The token that speaks for each word: the first, or for "max" the first of those with the highest score."""
    if aggregation != "max" or not len(first):
        return first
    counts = np.diff(np.append(first, len(score)))
    is_best = np.flatnonzero(score == np.repeat(np.maximum.reduceat(score, first), counts))
    word_of_best = np.repeat(np.arange(len(first)), counts)[is_best]
    return is_best[np.searchsorted(word_of_best, np.arange(len(first)))]


def _averages(probabilities: Floats, first: Ints) -> Floats:
    """[words, L] of tokens' [N, L]."""
    if not len(first):
        return probabilities
    mean = np.add.reduceat(probabilities, first, axis=0) / np.diff(np.append(first, len(probabilities)))[:, None]
    return mean.astype(np.float32)


def _chosen(probabilities: Floats, label: Ints) -> Floats:
    """The probability of each row's label."""
    chosen: Floats = np.take_along_axis(probabilities, label[:, None], axis=-1)[:, 0]
    return chosen


def _new_group(text: Ints, label: Ints, scheme: TagScheme) -> Bools:
    new: Bools = np.ones(len(label), dtype=np.bool_)
    before, after = label[:-1], label[1:]
    new[1:] = (
        (text[1:] != text[:-1]) | (scheme.tag[before] != scheme.tag[after]) | scheme.starts[after] | scheme.ends[before]
    )
    return new


def above(spans: EntitySpans, threshold: float, by_label: Mapping[str, float]) -> EntitySpans:
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

"""The conversion of gold entities to one label for each word, in the tag scheme of a checkpoint."""

from collections.abc import Sequence

import numpy as np

from distilray.model.arrays import Ints, ragged_ranges
from distilray.model.errors import MetricError
from distilray.model.inference.windows import word_starts
from distilray.model.metrics.labelled import IGNORED
from distilray.model.metrics.spans import Entities
from distilray.model.tokenizer.tokenizer import Tokens

# the prefixes that a scheme may use for a word's position in its entity, the most exact first
_PREFIXES = {
    "first": ("B", "I", ""),
    "inside": ("I", "M", ""),
    "last": ("E", "L", "I", "M", ""),
    "only": ("S", "U", "B", "I", ""),
}


def gold_tags(tokens: Tokens, gold: Entities, labels: Sequence[str]) -> tuple[Ints, Ints]:
    """Return the first token of each word and the label of each word, both int64 [words].

    A word belongs to an entity if the word begins inside the entity. The label of a word outside all entities is O, or -100 if there
    is no label O. Raises MetricError for an entity that has no label.
    """
    first = np.flatnonzero(word_starts(tokens.offsets, tokens.word_ids))
    row = np.searchsorted(tokens.offsets, first, "right") - 1
    width = int(max(tokens.end.max(initial=0), gold.end.max(initial=0))) + 1
    word_keys = row * width + tokens.start[first].astype(np.int64)
    begin, stop = (np.searchsorted(word_keys, gold.text * width + edge) for edge in (gold.start, gold.end))
    has_words = stop > begin
    begin, stop, label = begin[has_words], stop[has_words], gold.label[has_words]
    ids = {position: _ids(position, gold.names, labels)[label] for position in _PREFIXES}
    tags = np.full(len(first), labels.index("O") if "O" in labels else IGNORED)
    tags[ragged_ranges(begin, stop - begin)] = np.repeat(ids["inside"], stop - begin)
    tags[begin] = ids["first"]
    only = stop - begin == 1
    tags[stop - 1] = np.where(only, ids["only"], ids["last"])
    return first, tags


def _ids(position: str, names: Sequence[str], labels: Sequence[str]) -> Ints:
    """Return the label of the words at a position in an entity, for each entity name."""
    known = {label.replace("_", "-", 1) if label[1:2] == "_" else label: i for i, label in enumerate(labels)}
    ids = []
    for name in names:
        candidates = [f"{prefix}-{name}" if prefix else name for prefix in _PREFIXES[position]]
        label_id = next((known[tag] for tag in candidates if tag in known), None)
        if label_id is None:
            raise MetricError(f"gold has an entity {name}, but the model has only the labels {', '.join(labels)}")
        ids.append(label_id)
    return np.array(ids, dtype=np.int64)

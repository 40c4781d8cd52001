"""Gold entities as the label of each word, in the words of a checkpoint's own tag scheme."""

from collections.abc import Sequence

import numpy as np

from distilray.model.arrays import Ints, ragged_ranges
from distilray.model.errors import MetricError
from distilray.model.inference.windows import word_starts
from distilray.model.metrics.labelled import IGNORED
from distilray.model.metrics.spans import Entities
from distilray.model.tokenizer.tokenizer import Tokens

# the prefixes by which a scheme may name a word's place in its entity, the most exact first
_PLACES = {
    "first": ("B", "I", ""),
    "inside": ("I", "M", ""),
    "last": ("E", "L", "I", "M", ""),
    "only": ("S", "U", "B", "I", ""),
}


def gold_tags(tokens: Tokens, gold: Entities, labels: Sequence[str]) -> tuple[Ints, Ints]:
    """The first token of each word, and the word's label, both int64 [words]; -100 for a word outside all entities if
    no label is called O.

    A word belongs to an entity if it begins inside it. Raises MetricError for an entity that the labels cannot name.
    """
    first = np.flatnonzero(word_starts(tokens.offsets, tokens.word_ids))
    row = np.searchsorted(tokens.offsets, first, "right") - 1
    width = int(max(tokens.end.max(initial=0), gold.end.max(initial=0))) + 1
    at = row * width + tokens.start[first].astype(np.int64)
    begin, stop = (np.searchsorted(at, gold.text * width + where) for where in (gold.start, gold.end))
    held = stop > begin
    begin, stop, label = begin[held], stop[held], gold.label[held]
    named = {place: _ids(place, gold.names, labels)[label] for place in _PLACES}
    tags = np.full(len(first), labels.index("O") if "O" in labels else IGNORED)
    tags[ragged_ranges(begin, stop - begin)] = np.repeat(named["inside"], stop - begin)
    tags[begin] = named["first"]
    only = stop - begin == 1
    tags[stop - 1] = np.where(only, named["only"], named["last"])
    return first, tags


def _ids(place: str, names: Sequence[str], labels: Sequence[str]) -> Ints:
    """The label for each entity name's words at a place."""
    known = {label.replace("_", "-", 1) if label[1:2] == "_" else label: i for i, label in enumerate(labels)}
    ids = []
    for name in names:
        tried = [f"{prefix}-{name}" if prefix else name for prefix in _PLACES[place]]
        found = next((known[tag] for tag in tried if tag in known), None)
        if found is None:
            raise MetricError(f"gold has an entity {name}, but the model has only the labels {', '.join(labels)}")
        ids.append(found)
    return np.array(ids, dtype=np.int64)

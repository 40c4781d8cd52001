"""Gold columns of a labelled corpus as the arrays that losses and metrics take."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from distilray.model.metrics import MetricError
from distilray.model.metrics.gold import IGNORED
from distilray.model.metrics.spans import Entities
from distilray.model.packed import Bools, Floats, Ints
from distilray.operators.columns import plain_type


@dataclass(frozen=True)
class Gold:
    """The gold of R rows, and which of them count: a row that is dead, or has no gold, does not."""

    name: str
    column: pa.Array
    rows: Bools

    def label_ids(self, labels: Sequence[str]) -> Ints:
        """int64 [R]: index into `labels`, -100 in rows that do not count.

        The column holds names or indices; whole numbers are names if all labels are whole numbers, such as stars or years.
        """
        kind = plain_type(self.column.type)
        if pa.types.is_integer(kind) and labels and all(label.isdecimal() for label in labels):
            ids = self._ids(self.column.cast(pa.string()), labels)
        elif pa.types.is_integer(kind):
            ids = pc.fill_null(self.column.cast(pa.int64()), IGNORED).to_numpy()
        elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
            ids = self._ids(self.column.cast(pa.string()), labels)
        else:
            raise self._wrong("labels: strings or integers")
        return np.where(self.rows, ids, IGNORED)

    def label_flags(self, labels: Sequence[str]) -> Bools:
        """bool [R, L]: which labels each row has; the column holds lists of names."""
        lists = self._lists(pa.string(), "lists of labels")
        flags = np.zeros((len(lists), len(labels)), dtype=np.bool_)
        flags[_parents(lists), self._ids(lists.flatten(), labels)] = True
        return flags

    def numbers(self, width: int) -> Floats:
        """float32 [R, width]; the column holds numbers, or lists of `width` numbers; rows that do not count are 0."""
        if pa.types.is_floating(self.column.type) or pa.types.is_integer(self.column.type):
            if width != 1:
                raise self._wrong(f"lists of {width} numbers")
            column: Floats = pc.fill_null(self.column.cast(pa.float32()), 0).to_numpy().reshape(-1, 1)
            return column
        lists = self._lists(pa.float32(), f"numbers, or lists of {width}")
        values = np.zeros((len(lists), width), dtype=np.float32)
        counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
        if np.any(counts[self.rows] != width):
            raise self._wrong(f"lists of {width} numbers", int(np.flatnonzero(self.rows & (counts != width))[0]))
        values[counts == width] = lists.filter(pa.array(counts == width)).flatten().to_numpy().reshape(-1, width)
        return values

    def entities(self) -> Entities:
        """Spans of the rows that count; the column holds list<struct<start, end, label>>."""
        lists = self._structs(("start", "end", "label"), "lists of structs with start, end (characters) and label")
        values = lists.flatten()
        label = pc.struct_field(values, "label").cast(pa.string()).dictionary_encode()
        start, end = (pc.struct_field(values, name).cast(pa.int64()).to_numpy() for name in ("start", "end"))
        return Entities(_parents(lists), start, end, label.indices.to_numpy(), label.dictionary.to_pylist())

    def answers(self) -> tuple[pa.ListArray, Ints]:
        """Texts of each row's gold answers, list<string> [R], and where the first begins, -1 for none.

        The column holds list<struct<text, start>>, or SQuAD's struct<text: list, answer_start: list>.
        """
        if pa.types.is_struct(self.column.type):
            texts, starts = (pc.struct_field(self.column, name) for name in ("text", "answer_start"))
        else:
            lists = self._structs(("text", "start"), "lists of structs with text and start, or SQuAD's answers")
            values = lists.flatten()
            texts, starts = (
                pa.ListArray.from_arrays(_offsets(lists), pc.struct_field(values, name)) for name in ("text", "start")
            )
        first = np.full(len(texts), -1)
        some = pc.fill_null(pc.list_value_length(starts), 0).to_numpy() > 0
        first[some] = pc.list_element(starts.filter(pa.array(some)), 0).to_numpy()
        return texts.cast(pa.list_(pa.string())), first

    def token_ids(self, ids: Mapping[str, int], counts: Ints) -> Ints:
        """int64 [masks]: the token behind each mask, -100 in rows that do not count; the column holds lists of tokens."""
        lists = self._lists(pa.string(), "lists with a token for each mask")
        given = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
        if np.any((given != counts) & self.rows):
            row = int(np.flatnonzero((given != counts) & self.rows)[0])
            raise self._wrong(f"a token for each of {counts[row]} masks", row)
        gold = np.full(int(counts.sum()), IGNORED)
        gold[np.repeat(self.rows, counts)] = self._ids(lists.flatten(), list(ids), list(ids.values()))
        return gold

    def _ids(self, names: pa.Array, labels: Sequence[str], ids: Sequence[int] | None = None) -> Ints:
        """Index of each name among labels, or its id; MetricError for a name that is none of them."""
        index = pc.index_in(names, pa.array(labels, pa.string()))
        unknown = pc.unique(names.filter(pc.and_(pc.is_null(index), pc.is_valid(names)))).to_pylist()
        if unknown:
            shown = ", ".join(map(str, unknown[:5]))
            raise MetricError(f"gold column {self.name} has {shown}; the model knows {', '.join(labels[:20])}")
        found: Ints = pc.fill_null(index, IGNORED).to_numpy().astype(np.int64)
        return found if ids is None else np.array(ids)[found]

    def _lists(self, values: pa.DataType, expected: str) -> pa.ListArray:
        """The column as lists, empty in rows that do not count."""
        kind = self.column.type
        if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
            raise self._wrong(expected)
        try:
            lists = self.column.cast(pa.list_(values))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise self._wrong(expected) from None
        return pc.if_else(pa.array(self.rows), lists, pa.scalar([], lists.type))

    def _structs(self, names: Sequence[str], expected: str) -> pa.ListArray:
        kind = self.column.type
        item = kind.value_type if pa.types.is_list(kind) or pa.types.is_large_list(kind) else None
        if item is None or not pa.types.is_struct(item) or not set(names) <= {field.name for field in item}:
            raise self._wrong(expected)
        lists = self.column.cast(pa.list_(item))
        return pc.if_else(pa.array(self.rows), lists, pa.scalar([], lists.type))

    def _wrong(self, expected: str, row: int | None = None) -> MetricError:
        came = self.column.type if row is None else f"{self.column[row].as_py()!r:.80} in row {row} of a unit"
        return MetricError(f"gold column {self.name}: expected {expected}, got {came}")


def _parents(lists: pa.ListArray) -> Ints:
    """The row of each value."""
    counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    rows: Ints = np.repeat(np.arange(len(lists)), counts)
    return rows


def _offsets(lists: pa.ListArray) -> pa.Array:
    counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    return pa.array(np.append(0, np.cumsum(counts)), pa.int32())

"""The gold columns of a labelled corpus, as the arrays that losses and metrics take."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from distilray.model.arrays import Bools, Ints, offsets_of
from distilray.model.errors import MetricError
from distilray.model.metrics.labelled import IGNORED
from distilray.model.metrics.spans import Entities
from distilray.operators.rows.columns import is_text, plain_type
from distilray.operators.rows.ragged import ragged


@dataclass(frozen=True)
class Gold:
    """The gold of R rows.

    name: the name of the column. rows: bool [R], the rows that count. A dead row, or a row without gold, does not count.
    characters: int64 [R], the length of each text. All methods raise MetricError if the column is not what they expect.
    """

    name: str
    column: pa.Array
    rows: Bools
    characters: Ints

    def label_ids(self, labels: Sequence[str]) -> Ints:
        """Return int64 [R], the index of each row's label within `labels`; -100 in rows that do not count.

        The column holds names or indices. Whole numbers are names if all labels are whole numbers, such as stars or
        years.
        """
        kind, expected = plain_type(self.column.type), "labels: strings or whole numbers" if labels else "whole numbers"
        if labels and (not pa.types.is_integer(kind) or all(label.isdecimal() for label in labels)):
            if not (pa.types.is_integer(kind) or is_text(kind)):
                raise self._error(expected)
            ids = self._ids(self._cast(self.column, pa.string(), expected), labels, range(len(labels)))
        elif pa.types.is_integer(kind):
            ids = pc.fill_null(self._cast(self.column, pa.int64(), expected), IGNORED).to_numpy()
        else:
            raise self._error(expected)
        return np.where(self.rows, ids, IGNORED)

    def label_flags(self, labels: Sequence[str]) -> Bools:
        """Return bool [R, L], the labels that each row has. The column holds lists of names."""
        lists = self._lists("lists of labels")
        names = self._cast(lists.flatten(), pa.string(), "lists of labels", nulls=False)
        flags = np.zeros((len(lists), len(labels)), dtype=np.bool_)
        flags[_parents(lists), self._ids(names, labels, range(len(labels)))] = True
        return flags

    def numbers(self, width: int) -> npt.NDArray[np.float64]:
        """Return float64 [R, width]; rows that do not count are 0.

        The column holds numbers, or lists of `width` numbers.
        """
        expected = "numbers" if width == 1 else f"lists of {width} numbers"
        if width == 1 and (pa.types.is_floating(self.column.type) or pa.types.is_integer(self.column.type)):
            column = pc.fill_null(self._cast(self.column, pa.float64(), expected), 0)
            return np.where(self.rows, column.to_numpy(), 0).reshape(-1, 1)
        lists = self._lists(expected)
        self._check(self.rows & (_counts(lists) != width), expected)
        values = np.zeros((len(lists), width))
        flat = self._cast(lists.flatten(), pa.float64(), expected, nulls=False)
        values[self.rows] = flat.to_numpy().reshape(-1, width)
        return values

    def entities(self) -> Entities:
        """Return the entities of the rows that count. The column holds list<struct<start, end, label>>."""
        expected = "lists of structs with label, and start < end in characters of the text"
        lists = self._lists(expected)
        start, end = (self._field(lists, name, pa.int64(), expected).to_numpy() for name in ("start", "end"))
        label = self._field(lists, "label", pa.string(), expected).dictionary_encode()
        row = _parents(lists)
        self._check_rows(row, (start < 0) | (end <= start) | (end > self.characters[row]), expected)
        return Entities(row, start, end, label.indices.to_numpy(), label.dictionary.to_pylist())

    def answers(self) -> tuple[pa.ListArray, Ints]:
        """Return the texts of each row's gold answers, list<string> [R], and the start of the first one, -1 for none.

        The column holds list<struct<text, start>>, or SQuAD's struct<text: list, answer_start: list>.
        """
        expected = "lists of structs with text and start, or SQuAD's struct of text and answer_start"
        if pa.types.is_struct(self.column.type):
            parts = [self._part(name, expected) for name in ("text", "answer_start")]
            self._check(self.rows & (_counts(parts[0]) != _counts(parts[1])), expected)
            values = [part.flatten() for part in parts]
        else:
            parts = [self._lists(expected)]
            values = [self._field(parts[0], name, None, expected) for name in ("text", "start")]
        counts, row = _counts(parts[0]), _parents(parts[0])
        text = self._cast(values[0], pa.string(), expected, nulls=False)
        start = self._cast(values[1], pa.int64(), expected, nulls=False).to_numpy()
        ends = start + pc.utf8_length(text).to_numpy()
        self._check_rows(row, (start < 0) | (ends > self.characters[row]), expected)
        first = np.full(len(counts), -1)
        first[counts > 0] = start[offsets_of(counts)[:-1][counts > 0]]
        return ragged(counts, text), first

    def token_ids(self, vocabulary: Sequence[str], counts: Ints) -> Ints:
        """Return int64 [masks], the id of the gold token of each mask; -100 in rows that do not count.

        counts: the masks of each row. The column holds lists of tokens.
        """
        lists = self._lists("lists with a token for each mask")
        self._check(self.rows & (_counts(lists) != counts), "lists with a token for each mask")
        names = self._cast(lists.flatten(), pa.string(), "lists with a token for each mask", nulls=False)
        gold = np.full(int(counts.sum()), IGNORED)
        gold[np.repeat(self.rows, counts)] = self._ids(names, vocabulary, range(len(vocabulary)))
        return gold

    def _ids(self, names: pa.Array, labels: Sequence[str], ids: Sequence[int]) -> Ints:
        """Return the id of each name, -100 for a null. Raises MetricError for a name that is not a label."""
        index = pc.index_in(names, pa.array(labels, pa.string()), skip_nulls=True)
        unknown = pc.unique(names.filter(pc.and_(pc.is_null(index), pc.is_valid(names)))).to_pylist()
        if unknown:
            examples, known = ", ".join(map(str, unknown[:5])), ", ".join(labels[:20])
            more = f" and {len(labels) - 20:,} more" if len(labels) > 20 else ""
            raise MetricError(f"gold column {self.name} has {examples}; expected one of the model's {known}{more}")
        positions = pc.fill_null(index, -1).to_numpy()
        return np.where(positions < 0, IGNORED, np.asarray(ids)[positions])

    def _lists(self, expected: str, column: pa.Array | None = None) -> pa.ListArray:
        """Return the column as lists, empty in rows that do not count."""
        column = self.column if column is None else column
        kind = column.type
        if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
            raise self._error(expected)
        lists = self._cast(column, pa.list_(kind.value_type), expected)
        self._check(self.rows & lists.is_null().to_numpy(zero_copy_only=False), expected)
        return pc.if_else(pa.array(self.rows), lists, pa.scalar([], lists.type))

    def _part(self, name: str, expected: str) -> pa.ListArray:
        """Return a list field of the column's struct."""
        if self.column.type.get_field_index(name) < 0:
            raise self._error(expected)
        return self._lists(expected, pc.struct_field(self.column, name))

    def _field(self, lists: pa.ListArray, name: str, kind: pa.DataType | None, expected: str) -> pa.Array:
        """Return a field of the structs in lists, end to end."""
        values = lists.flatten()
        if not pa.types.is_struct(values.type) or values.type.get_field_index(name) < 0:
            raise self._error(expected)
        field = pc.struct_field(values, name)
        return field if kind is None else self._cast(field, kind, expected, nulls=False)

    def _cast(self, values: pa.Array, kind: pa.DataType, expected: str, *, nulls: bool = True) -> pa.Array:
        try:
            if pa.types.is_string(kind) != is_text(values.type) and not pa.types.is_integer(plain_type(values.type)):
                raise self._error(expected)  # a string is not converted to a number
            cast = values.cast(kind)
        except pa.ArrowException:
            raise self._error(expected) from None
        if not nulls and cast.null_count:
            raise MetricError(f"gold column {self.name}: expected {expected}, got a null inside")
        return cast

    def _check_rows(self, row: Ints, bad: Bools, expected: str) -> None:
        self._check(np.bincount(row, bad, minlength=len(self.rows)) > 0, expected)

    def _check(self, bad: Bools, expected: str) -> None:
        """Raise MetricError with the first bad row, if there is one."""
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise self._error(
                expected, f"{self.column[row].as_py()!r:.120} for a text of {self.characters[row]} characters"
            )

    def _error(self, expected: str, value: str | None = None) -> MetricError:
        return MetricError(f"gold column {self.name}: expected {expected}, got {value or self.column.type}")


def _counts(lists: pa.ListArray) -> Ints:
    counts: Ints = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    return counts


def _parents(lists: pa.ListArray) -> Ints:
    """Return the row of each value of the lists."""
    rows: Ints = np.repeat(np.arange(len(lists)), _counts(lists))
    return rows

"""Multiple choice: which of a row's choices goes with its text."""

from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from distilray.model.config import Config
from distilray.model.decode.scores import ragged_softmax, ranked_ragged
from distilray.model.heads import HeadName
from distilray.model.metrics import choices as metrics
from distilray.model.metrics import losses
from distilray.model.packed import Bools, Floats, Ints, offsets_of
from distilray.model.predictor import Arrays, Reading
from distilray.model.sequences import PAIR, pair, read_first
from distilray.model.tokenizer import Tokenizer
from distilray.operators import schema as s
from distilray.operators.batch import Batch
from distilray.operators.gold import Gold
from distilray.operators.long_texts import TOO_LONG
from distilray.operators.options import ColumnName
from distilray.operators.ragged import ragged
from distilray.operators.task import Answer, Death, InputKind, JudgedTask, Request, answered


class MultipleChoice(JudgedTask):
    """The best of a row's choices with a multiple choice checkpoint, from pairs of (text, choice).

    choices: the column with a list of two or more choices a row. long_texts: what becomes of a text that does not fit the
    model together with each choice: a dead letter, or its beginning.
    """

    task: Literal["multiple-choice"] = "multiple-choice"
    name: ColumnName = "choice"
    choices: str = "choices"
    long_texts: Literal["error", "truncate"] = "error"

    head: ClassVar[HeadName] = "multiple-choice"

    @property
    def truncates(self) -> bool:
        return self.long_texts == "truncate"

    @property
    def columns(self) -> dict[str, InputKind]:
        return {self.choices: "texts"}

    def check(self, config: Config, tokenizer: Tokenizer) -> None:
        """Any multiple choice checkpoint will do."""

    def kind(self, config: Config) -> pa.DataType:
        return s.CHOICE

    def counted(self, answers: pa.ChunkedArray) -> pa.ChunkedArray:
        return pc.struct_field(answers, "index").cast(pa.string())

    def request(self, batch: Batch, config: Config, gold: Gold | None = None) -> Request:
        choices = batch.others[self.choices]
        counts = choices.counts
        row = np.repeat(np.arange(batch.rows), counts)
        room = batch.tokenizer.max_length - PAIR - choices.lengths
        beyond = _any(batch.text.lengths[row] > room, row, batch.rows)
        length = np.minimum(batch.text.lengths[row], np.maximum(room, 1))
        choice_length = np.minimum(choices.lengths, batch.tokenizer.max_length - PAIR - 1)  # of a row that is dead
        deaths = self._deaths(counts, _any(room < 1, row, batch.rows), beyond, batch.tokenizer.max_length)

        def answer(outputs: Arrays) -> Answer:
            logits = outputs[0][:, 0]
            column = _column(logits, counts)
            found = pc.struct_field(column, "index").to_numpy()
            judged = _counts(logits, counts, found, answered(gold, deaths)) if gold else {}
            return Answer(column, beyond if self.truncates else None, deaths, judged)

        sequences = pair(batch.text.first[row], length, choices.first, choice_length)
        return Request(sequences, Reading(read_first(len(row))), row, answer)

    def figures(self, counts: dict[str, Any]) -> dict[str, Any]:
        return {**losses.figures(counts["loss"]), **metrics.figures(counts["choices"])}

    def _deaths(self, counts: Ints, no_room: Bools, beyond: Bools, limit: int) -> tuple[Death, ...]:
        says = f"text and choice have more than the model's {limit} tokens; choose long_texts truncate"
        return (
            Death(counts < 2, "too_few_choices", f"column {self.choices} has fewer than two choices"),
            Death(no_room, "choice_too_long", f"a choice leaves no room for the text within {limit} tokens"),
            *([Death(beyond, TOO_LONG, says)] if self.long_texts == "error" else []),
        )


def _counts(logits: Floats, counts: Ints, found: Ints, gold: Gold) -> dict[str, Any]:
    """Of the rows that count; logits: of all choices end to end."""
    wanted, rows = gold.label_ids(()), gold.rows
    kept = counts[rows]
    terms = losses.ragged_cross_entropy(logits[np.repeat(rows, counts)], offsets_of(kept), wanted[rows])
    return {"loss": losses.count(loss=terms), "choices": metrics.count(wanted[rows], found[rows], kept)}


def _any(true: Bools, row: Ints, rows: int) -> Bools:
    """Whether it is true of any of a row's choices."""
    held: Bools = np.bincount(row, true, minlength=rows) > 0
    return held


def _column(logits: Floats, counts: Ints) -> pa.StructArray:
    """struct<index, score, scores>; logits of all choices end to end. A row without choices has index -1."""
    scores = ragged_softmax(logits, counts)
    best, found = ranked_ragged(scores, counts, 1)
    index = np.full(len(counts), -1)
    top = np.zeros(len(counts), dtype=np.float32)
    has = found > 0
    index[has], top[has] = best - offsets_of(counts)[:-1][has], scores[best]
    values = [pa.array(index, pa.int32()), pa.array(top), ragged(counts, pa.array(scores, pa.float32()))]
    return pa.StructArray.from_arrays(values, fields=list(s.CHOICE))

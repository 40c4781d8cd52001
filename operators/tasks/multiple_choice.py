"""The multiple choice task: the choice of a row that fits its text best."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from distilray.model.arrays import Arrays, Bools, Floats, Ints, offsets_of
from distilray.model.decode.scores import best_in_groups, ragged_softmax, ranked_ragged
from distilray.model.inference.requests import HeadRequest, first_positions
from distilray.model.inference.sequences import PAIR, pair
from distilray.model.metrics import choices as metrics
from distilray.model.metrics import losses
from distilray.model.network.config import Config
from distilray.model.network.names import HeadName
from distilray.model.tokenizer.tokenizer import Tokenizer
from distilray.operators.evaluation.gold import Gold
from distilray.operators.rows import schema as s
from distilray.operators.rows.batch import Batch
from distilray.operators.rows.ragged import one_chunk, ragged
from distilray.operators.tasks.long_texts import TOO_LONG
from distilray.operators.tasks.options import AnswerColumn
from distilray.operators.tasks.task import (
    Answer,
    EvaluatedTask,
    InputKind,
    Line,
    Rejection,
    Rendering,
    Request,
    gold_of_answered,
)


class MultipleChoice(EvaluatedTask):
    """The best choice of each row, by a multiple choice checkpoint, from pairs of text and choice."""

    task: Annotated[Literal["multiple-choice"], Field(description="The kind of the task.")] = "multiple-choice"
    name: AnswerColumn = "choice"
    choices: Annotated[
        str, Field(description="The column with the choices of each row: a list of two or more texts.")
    ] = "choices"
    long_texts: Annotated[
        Literal["error", "truncate"],
        Field(
            description="The treatment of a text that does not fit the model together with each choice: error "
            "makes it a dead letter, truncate reads its beginning."
        ),
    ] = "error"

    head: ClassVar[HeadName] = "multiple-choice"

    @property
    def truncates(self) -> bool:
        return self.long_texts == "truncate"

    @property
    def columns(self) -> dict[str, InputKind]:
        return {self.choices: "texts"}

    def check(self, config: Config, tokenizer: Tokenizer) -> None:
        """Accept any multiple choice checkpoint."""

    def answer_type(self, config: Config) -> pa.DataType:
        return s.CHOICE

    def labels_to_count(self, answers: pa.ChunkedArray) -> pa.ChunkedArray:
        return pc.struct_field(answers, "index").cast(pa.string())

    def request(self, batch: Batch, config: Config, gold: Gold | None = None) -> Request:
        choices = batch.others[self.choices]
        counts = choices.counts
        row = np.repeat(np.arange(batch.rows), counts)
        room = batch.tokenizer.max_length - PAIR - choices.lengths
        too_long = _any(batch.text.lengths[row] > room, row, batch.rows)
        length = np.minimum(batch.text.lengths[row], np.maximum(room, 1))
        # a longer choice makes its row a dead letter
        choice_length = np.minimum(choices.lengths, batch.tokenizer.max_length - PAIR - 1)
        rejections = self._rejections(counts, _any(room < 1, row, batch.rows), too_long, batch.tokenizer.max_length)

        def answer(outputs: Arrays) -> Answer:
            logits = outputs[0][:, 0]
            column = _column(logits, counts)
            chosen = pc.struct_field(column, "index").to_numpy()
            metric_counts = _counts(logits, counts, chosen, gold_of_answered(gold, rejections)) if gold else {}
            return Answer(column, too_long if self.truncates else None, rejections, metric_counts)

        sequences = pair(batch.text.first[row], length, choices.first, choice_length)
        return Request(sequences, HeadRequest(first_positions(len(row))), row, answer)

    def decisions(self, logits: Floats, request: HeadRequest, rows: pa.Table, config: Config) -> Ints:
        counts = pc.list_value_length(one_chunk(rows[s.input_column(self.choices)])).to_numpy()
        return best_in_groups(logits[:, 0], counts)[:, None]

    def render(self, answer: Any, row: Mapping[str, Any]) -> Rendering:
        choices = row[s.input_column(self.choices)]
        subjects = ["chosen" if i == answer["index"] else "" for i in range(len(choices))]
        return Rendering(lines=[Line(*line) for line in zip(subjects, choices, answer["scores"], strict=True)])

    def scores(self, answers: pa.Array) -> tuple[str, pa.Array]:
        return "the score of each best choice", pc.struct_field(answers, "score")

    def figures(self, counts: dict[str, Any]) -> dict[str, Any]:
        return {**losses.figures(counts["loss"]), **metrics.figures(counts["choices"])}

    def _rejections(self, counts: Ints, no_room: Bools, too_long: Bools, limit: int) -> tuple[Rejection, ...]:
        message = f"text and choice have more than the model's {limit} tokens; choose long_texts truncate"
        return (
            Rejection(counts < 2, "too_few_choices", f"column {self.choices} has fewer than two choices"),
            Rejection(no_room, "choice_too_long", f"a choice leaves no room for the text within {limit} tokens"),
            *([Rejection(too_long, TOO_LONG, message)] if self.long_texts == "error" else []),
        )


def _counts(logits: Floats, counts: Ints, chosen: Ints, gold: Gold) -> dict[str, Any]:
    """Return the counts for losses and metrics over the rows of `gold`. logits: those of all choices, end to end."""
    gold_choices, rows = gold.label_ids(()), gold.rows
    kept = counts[rows]
    terms = losses.ragged_cross_entropy(logits[np.repeat(rows, counts)], offsets_of(kept), gold_choices[rows])
    return {"loss": losses.count(loss=terms), "choices": metrics.count(gold_choices[rows], chosen[rows], kept)}


def _any(flags: Bools, row: Ints, rows: int) -> Bools:
    """Return whether any choice of each row has its flag set. flags, row: one value for each choice of all rows."""
    flagged: Bools = np.bincount(row, flags, minlength=rows) > 0
    return flagged


def _column(logits: Floats, counts: Ints) -> pa.StructArray:
    """Return struct<index, score, scores>; a row without choices has index -1.

    logits: those of all choices, end to end.
    """
    scores = ragged_softmax(logits, counts)
    best, best_counts = ranked_ragged(scores, counts, 1)
    index = np.full(len(counts), -1)
    top = np.zeros(len(counts), dtype=np.float32)
    has_choices = best_counts > 0
    index[has_choices], top[has_choices] = best - offsets_of(counts)[:-1][has_choices], scores[best]
    values = [pa.array(index, pa.int32()), pa.array(top), ragged(counts, pa.array(scores, pa.float32()))]
    return pa.StructArray.from_arrays(values, fields=list(s.CHOICE))

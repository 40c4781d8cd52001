"""The text classification task: a label, several labels, or a number for a text or a pair of texts."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from distilray.model.arrays import Arrays, Bools, Floats, Ints
from distilray.model.decode.scores import Function, apply, label_decisions
from distilray.model.inference.requests import HeadRequest, first_positions
from distilray.model.inference.sequences import PAIR, SINGLE, Sequences, pair, single
from distilray.model.inference.windows import Windows
from distilray.model.metrics import labels, losses, multilabel, regression
from distilray.model.network.config import Config, ProblemType
from distilray.model.network.names import HeadName
from distilray.model.tokenizer.tokenizer import Tokenizer
from distilray.operators.errors import TaskError
from distilray.operators.evaluation.gold import Gold
from distilray.operators.rows import schema as s
from distilray.operators.rows.batch import Batch
from distilray.operators.rows.label_columns import best_labels, ranked_labels
from distilray.operators.tasks.long_texts import LongTexts, WindowedTexts, least_room, window_texts
from distilray.operators.tasks.options import AnswerColumn, Positive, Score
from distilray.operators.tasks.task import (
    Answer,
    CompatTask,
    InputKind,
    Rejection,
    Rendering,
    Request,
    gold_of_answered,
    render_labels,
)

PAIR_TOO_LONG = "text_pair_too_long"


class TextClassification(CompatTask):
    """Labels by a sequence classification checkpoint.

    With compat "hf" and long_texts "truncate", the longer text of a pair is truncated if the pair is too long.
    """

    task: Annotated[Literal["text-classification"], Field(description="The kind of the task.")] = "text-classification"
    name: AnswerColumn = "label"
    text_pair: Annotated[str | None, Field(description="The column with the second text of each pair.")] = None
    top_k: Annotated[
        Positive | Literal["all"] | None,
        Field(
            description="The number of labels of each text, best first. null means the best label or, for a "
            "multi-label model, all labels that reach their threshold."
        ),
    ] = None
    function: Annotated[
        Function | None,
        Field(
            description="The function that converts logits to scores. null means the function for the "
            "problem_type of the checkpoint."
        ),
    ] = None
    long_texts: Annotated[
        LongTexts,
        Field(
            description="The treatment of a text longer than the model: error makes it a dead letter, truncate "
            "reads its beginning, mean and max combine the logits of its windows."
        ),
    ] = "error"
    threshold: Annotated[
        Score | None, Field(description="The least score of a label of a multi-label model. null means 0.5.")
    ] = None
    thresholds: Annotated[
        dict[str, Score], Field(description="The least score by label; it overrides threshold for these labels.")
    ] = {}

    head: ClassVar[HeadName] = "sequence-classification"

    @model_validator(mode="after")
    def _check_options(self) -> Self:
        thresholds = self.threshold is not None or bool(self.thresholds)
        if self.compat == "hf" and (self.long_texts in ("mean", "max") or thresholds):
            raise ValueError(
                "compat hf supports neither windows (long_texts mean or max) nor thresholds: leave them out"
            )
        if self.top_k is not None and thresholds:
            raise ValueError(
                "top_k returns the best labels regardless of their scores: give either top_k or thresholds"
            )
        return self

    @property
    def truncates(self) -> bool:
        return self.long_texts == "truncate"

    @property
    def columns(self) -> dict[str, InputKind]:
        return {self.text_pair: "text"} if self.text_pair else {}

    def check(self, config: Config, tokenizer: Tokenizer) -> None:
        if unknown := sorted(self.thresholds.keys() - set(config.labels)):
            known = ", ".join(config.labels)
            raise TaskError(f"thresholds: the model has no label {', '.join(unknown)}; it has {known}")
        if (self.thresholds or self.threshold is not None) and not self._is_multi_label(config):
            raise TaskError(
                f"threshold is only for multi-label models; this one is for {config.problem}: leave threshold out"
            )

    def answer_type(self, config: Config) -> pa.DataType:
        return pa.list_(s.LABEL) if self.top_k is not None or self._is_multi_label(config) else s.LABEL

    def labels_to_count(self, answers: pa.ChunkedArray) -> pa.ChunkedArray:
        labels = pc.list_flatten(answers) if pa.types.is_list(answers.type) else answers
        return pc.struct_field(labels, "label")

    def request(self, batch: Batch, config: Config, gold: Gold | None = None) -> Request:
        room = batch.tokenizer.max_length - (PAIR if self.text_pair else SINGLE)
        second, cut = self._second_text(batch, room)
        windowed = window_texts(batch.text.tokens, room - second, self.long_texts)
        rejections = self._rejections(batch, windowed, cut)

        def answer(outputs: Arrays) -> Answer:
            logits = windowed.pooled(outputs[0], self.long_texts)
            scores = apply(self._function(config), logits)
            counts = self._counts(logits, scores, config, gold_of_answered(gold, rejections)) if gold else {}
            return Answer(
                self._column(scores, config), windowed.too_long | cut if self.truncates else None, rejections, counts
            )

        windows = windowed.windows
        positions = first_positions(len(windows.text))
        return Request(self._sequences(batch, windows, second), HeadRequest(positions), windows.text, answer)

    def decisions(self, logits: Floats, request: HeadRequest, rows: pa.Table, config: Config) -> Ints:
        return label_decisions(logits, config.problem)

    def render(self, answer: Any, row: Mapping[str, Any]) -> Rendering:
        return render_labels(answer)

    def scores(self, answers: pa.Array) -> tuple[str, pa.Array]:
        labels = answers.flatten() if pa.types.is_list(answers.type) else answers
        return "the score of each label given", pc.struct_field(labels, "score")

    def figures(self, counts: dict[str, Any]) -> dict[str, Any]:
        metrics = {"labels": labels, "multilabel": multilabel, "regression": regression}
        figures = [module.figures(counts[name]) for name, module in metrics.items() if name in counts]
        return {**losses.figures(counts["loss"]), **figures[0]}

    def _counts(self, logits: Floats, scores: Floats, config: Config, gold: Gold) -> dict[str, Any]:
        names, rows = config.labels, gold.rows
        match config.problem:
            case "single_label_classification":
                ids = gold.label_ids(names)
                terms, predicted = losses.cross_entropy(logits, ids), scores.argmax(axis=1)
                return {"loss": losses.count(loss=terms), "labels": labels.count(ids, predicted, names)}
            case "multi_label_classification":
                flags = gold.label_flags(names)[rows]
                terms = losses.binary_cross_entropy(logits[rows], flags.astype(np.float32))
                predicted = scores[rows] >= self._label_thresholds(config)
                return {"loss": losses.count(loss=terms), "multilabel": multilabel.count(flags, predicted, names)}
            case "regression":
                numbers = gold.numbers(len(names))[rows]
                terms = losses.squared_error(logits[rows], numbers)
                return {"loss": losses.count(loss=terms), "regression": regression.count(numbers, logits[rows], names)}

    def _label_thresholds(self, config: Config) -> Floats:
        """Return the threshold of each label."""
        default = 0.5 if self.threshold is None else self.threshold
        return np.array([self.thresholds.get(label, default) for label in config.labels], dtype=np.float32)

    def _second_text(self, batch: Batch, room: int) -> tuple[Ints, Bools]:
        """Return the number of tokens to read of each second text, and whether it has more.

        room: the tokens of both texts together.
        """
        if self.text_pair is None:
            return np.zeros(batch.rows, dtype=np.int64), np.zeros(batch.rows, dtype=np.bool_)
        first, lengths = batch.text.lengths, batch.others[self.text_pair].lengths
        if self.compat == "hf" and self.truncates:  # truncate the longer text, or both if each exceeds its half
            half = np.where(lengths < first, room // 2, room - room // 2)
            second = np.minimum(lengths, np.maximum(room - first, half))
        else:  # a longer second text makes its row a dead letter
            second = np.minimum(lengths, room - 1)
            windowed = (self.long_texts in ("mean", "max")) & (first > room - lengths)
            second[windowed & (room - lengths < least_room(room))] = 0
        return second, second < lengths

    def _rejections(self, batch: Batch, windowed: WindowedTexts, cut: Bools) -> tuple[Rejection, ...]:
        limit = batch.tokenizer.max_length
        message = f"column {self.text_pair} leaves too little room for the text within the model's {limit} tokens"
        pairs = () if self.compat == "hf" and self.truncates else (Rejection(cut, PAIR_TOO_LONG, message),)
        return (*pairs, *windowed.rejections(self.long_texts, limit))

    def _sequences(self, batch: Batch, windows: Windows, second: Ints) -> Sequences:
        first, row = batch.text.first[windows.text] + windows.start, windows.text
        if self.text_pair is None:
            return single(first, windows.lengths)
        return pair(first, windows.lengths, batch.others[self.text_pair].first[row], second[row])

    def _column(self, scores: Floats, config: Config) -> pa.Array:
        if self._is_multi_label(config):
            return ranked_labels(scores, config.labels, None, scores >= self._label_thresholds(config))
        if self.top_k is not None:
            return ranked_labels(scores, config.labels, None if self.top_k == "all" else self.top_k)
        return best_labels(scores, config.labels)

    def _is_multi_label(self, config: Config) -> bool:
        """Return whether a text may have any number of labels."""
        return config.problem == "multi_label_classification" and self.compat is None and self.top_k is None

    def _function(self, config: Config) -> Function:
        if self.function is not None:
            return self.function
        one = len(config.labels) == 1 and config.problem_type != "regression"
        if self.compat == "hf" and one:
            return "sigmoid"
        return _FUNCTIONS[config.problem]


_FUNCTIONS: dict[ProblemType, Function] = {
    "single_label_classification": "softmax",
    "multi_label_classification": "sigmoid",
    "regression": "none",
}

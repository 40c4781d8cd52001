"""The extractive question answering task: spans of a text that answer questions about it."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from distilray.model.arrays import Arrays, Bools, Floats, Ints, offsets_of, ragged_ranges
from distilray.model.decode.question_answering import QuestionWindows, RankedAnswers, decode, hf_candidates, hf_merge
from distilray.model.decode.scores import best_in_groups
from distilray.model.inference.requests import HeadRequest, OutputPositions
from distilray.model.inference.sequences import PAIR, pair
from distilray.model.inference.windows import Windows, split_into_hf_windows, split_into_windows
from distilray.model.metrics import answers, losses
from distilray.model.network.config import Config
from distilray.model.network.names import HeadName
from distilray.model.tokenizer.tokenizer import Tokenizer
from distilray.operators.errors import TaskError
from distilray.operators.evaluation import gold_answers as answer_gold
from distilray.operators.evaluation.gold import Gold
from distilray.operators.rows import schema as s
from distilray.operators.rows.batch import Batch
from distilray.operators.rows.ragged import ragged, slice_characters
from distilray.operators.tasks.long_texts import least_room
from distilray.operators.tasks.options import AnswerColumn, Count, Positive
from distilray.operators.tasks.task import (
    Answer,
    CompatTask,
    InputKind,
    Line,
    Rejection,
    Rendering,
    Request,
    Span,
    first_of_each,
    frequent_texts,
    gold_of_answered,
)


class QuestionAnswering(CompatTask):
    """Answers by a question answering checkpoint. The text is the context. A long text is read in windows.

    compat "hf" means the rules of Transformers 4.57, the last version with this pipeline.
    """

    task: Annotated[Literal["question-answering"], Field(description="The kind of the task.")] = "question-answering"
    name: AnswerColumn = "answers"
    questions: Annotated[
        Annotated[list[str], Field(min_length=1)] | None,
        Field(description="The questions about every text. Give either questions or question_column."),
    ] = None
    question_column: Annotated[
        str | None,
        Field(description="The column with the question about each text. Give either questions or question_column."),
    ] = None
    top_k: Annotated[Positive, Field(description="The number of answers to each question, best first.")] = 1
    no_answer: Annotated[bool, Field(description='Whether "", no answer, is a possible answer.')] = False
    null_threshold: Annotated[
        float,
        Field(
            description='The margin by which the logits of "" must exceed those of the best span. It needs no_answer.'
        ),
    ] = 0.0
    max_answer_len: Annotated[Positive, Field(description="The largest number of tokens of an answer.")] = 15
    align_to_words: Annotated[
        bool, Field(description="Whether answers must begin and end at the boundaries of words.")
    ] = True
    max_seq_len: Annotated[
        Positive | None,
        Field(
            description="The number of tokens of a window with its question. null means the limit of the model. With "
            "compat hf, null means this limit, but at most 384."
        ),
    ] = None
    overlap: Annotated[
        Count | None,
        Field(
            description="The number of tokens that neighbouring windows share. null means 128, but at "
            "most half of the room for the text. With compat hf, null means 128, but at most half of max_seq_len."
        ),
    ] = None

    head: ClassVar[HeadName] = "question-answering"

    @model_validator(mode="after")
    def _check_options(self) -> Self:
        if (self.questions is None) == (self.question_column is None):
            raise ValueError("give either questions, asked of every text, or question_column")
        if self.questions is not None and not all(question.strip() for question in self.questions):
            raise ValueError("a question must not be empty")
        if self.null_threshold and (self.compat == "hf" or not self.no_answer):
            raise ValueError(
                "null_threshold needs no_answer, and compat hf does not support it: leave null_threshold out"
            )
        if self.gold and len(self.questions or []) > 1:
            raise ValueError("gold has answers to one question; give one question, or question_column")
        return self

    @property
    def columns(self) -> dict[str, InputKind]:
        return {self.question_column: "text"} if self.question_column else {}

    def check(self, config: Config, tokenizer: Tokenizer) -> None:
        if len(config.labels) != 2:
            raise TaskError(f"expected 2 labels, start and end, got {len(config.labels)}")
        if self.max_seq_len is not None and self.max_seq_len > tokenizer.max_length:
            raise TaskError(f"max_seq_len: the model holds {tokenizer.max_length} tokens, got {self.max_seq_len}")
        room = self._limit(tokenizer) - PAIR - np.diff(tokenizer(self.questions or [""]).offsets)
        if self._too_few(tokenizer, room).any():
            raise TaskError(
                f"windows of {self._limit(tokenizer)} tokens leave {room.min()} for the text beside the longest "
                f"question, too few for an overlap of {self._overlap(tokenizer, room).max()}: shorten the question"
            )

    def answer_type(self, config: Config) -> pa.DataType:
        return pa.list_(s.ANSWER)

    def labels_to_count(self, answers: pa.ChunkedArray) -> pa.ChunkedArray:
        text = pc.struct_field(pc.list_flatten(answers), "text")
        return pc.if_else(pc.equal(text, ""), "no answer", "answer")

    def request(self, batch: Batch, config: Config, gold: Gold | None = None) -> Request:
        questions = batch.others[self.question_column] if self.question_column else batch.add(self.questions or [])
        per_row = 1 if self.question_column else len(self.questions or [])
        room, rejections = self._room(batch, questions.lengths)
        windows, ask = self._windows(batch, room, per_row)
        question = ask if self.question_column else ask % per_row
        length = (self._limit(batch.tokenizer) - PAIR - room)[question]
        context = batch.text.first[windows.text] + windows.start
        sequences = pair(questions.first[question], length, context, windows.lengths)
        offsets, at_context = offsets_of(sequences.lengths), 2 + length
        # all positions: [CLS], question and text
        positions = OutputPositions(np.arange(len(ask)), np.zeros_like(ask), sequences.lengths)

        def answer(outputs: Arrays) -> Answer:
            (logits,) = outputs
            in_text = logits[ragged_ranges(offsets[:-1] + at_context, windows.lengths)]
            column = self._column(batch, self._answers(batch, windows, ask, in_text, logits[offsets[:-1]]))
            if gold is None:
                return Answer(column, rejections=rejections)
            answered = gold_of_answered(gold, rejections)
            counts = answer_gold.count_answers(
                answered, column, batch.text.tokens, windows, at_context, logits, offsets
            )
            return Answer(column, rejections=rejections, counts=counts)

        return Request(sequences, HeadRequest(positions), windows.text, answer)

    def decisions(self, logits: Floats, request: HeadRequest, rows: pa.Table, config: Config) -> Ints:
        lengths = request.positions.length  # the start and the end of an answer lie in its window
        return np.stack([best_in_groups(column, lengths) for column in logits.T], axis=1)

    def render(self, answer: Any, row: Mapping[str, Any]) -> Rendering:
        best = first_of_each(answer, "question")
        number = {entry["question"]: i for i, entry in enumerate(best, start=1)}
        spans = [
            Span(entry["start"], entry["end"], f"answer {number[entry['question']]}", entry["score"])
            for entry in best
            if entry["end"] > entry["start"]
        ]
        lines = [
            Line(f"{number[entry['question']]}. {entry['question']}", entry["text"] or "no answer", entry["score"])
            for entry in answer
        ]
        return Rendering(spans, lines)

    def scores(self, answers: pa.Array) -> tuple[str, pa.Array]:
        return "the score of each answer", pc.struct_field(answers.flatten(), "score")

    def query(self, data: str) -> str:
        return frequent_texts(self.name, "question", data)

    def figures(self, counts: dict[str, Any]) -> dict[str, Any]:
        return {**losses.figures(counts["loss"]), **answers.figures(counts["answers"])}

    def _limit(self, tokenizer: Tokenizer) -> int:
        """Return the number of tokens of a window, with the question and special tokens."""
        if self.max_seq_len is not None:
            return self.max_seq_len
        return min(tokenizer.max_length, 384) if self.compat == "hf" else tokenizer.max_length

    def _max_overlap(self, room: Ints) -> Ints:
        return room - 1 if self.compat == "hf" else room // 2

    def _overlap(self, tokenizer: Tokenizer, room: Ints) -> Ints:
        if self.overlap is not None:
            return np.broadcast_to(self.overlap, room.shape)
        limit = self._limit(tokenizer)
        return np.full_like(room, min(limit // 2, 128)) if self.compat == "hf" else np.minimum(128, room // 2)

    def _windows(self, batch: Batch, room: Ints, per_row: int) -> tuple[Windows, Ints]:
        """Return the windows of all asks and the ask of each window, sorted by ask.

        An ask is a pair of row and question. room: the tokens for the text, of each row or of each question. per_row:
        the number of questions of each row.
        """
        parts = [self._split(batch, np.asarray(tokens)) for tokens in ([room] if self.question_column else room)]
        asks = np.concatenate([part.text * per_row + number for number, part in enumerate(parts)])
        order = np.argsort(asks, kind="stable")
        columns = (np.concatenate([getattr(part, name) for part in parts])[order] for name in ("text", "start", "end"))
        return Windows(*columns), asks[order]

    def _split(self, batch: Batch, room: Ints) -> Windows:
        """Split every text into windows. room: the tokens of a window for the text, one number or one for each text."""
        tokens = batch.text.tokens
        # a text that fits has one window, for which the overlap does not matter
        overlap = np.minimum(self._overlap(batch.tokenizer, room), self._max_overlap(room))
        if self.compat == "hf":
            return split_into_hf_windows(tokens.offsets, room, overlap, min_windows=1)
        return split_into_windows(tokens.offsets, tokens.word_ids, room, overlap, min_windows=1)

    def _room(self, batch: Batch, lengths: Ints) -> tuple[Ints, tuple[Rejection, ...]]:
        """Return the tokens that questions leave for the text in a window, and a rejection of rows with too few.

        Rejected rows are computed as if they had no question. Only questions of a column are rejected; `check` has
        checked the questions about every text. lengths: the tokens of each question.
        """
        limit = self._limit(batch.tokenizer)
        room = limit - PAIR - lengths
        if self.question_column is None:
            return room, ()
        tight = (room < 1) | (self._too_few(batch.tokenizer, room) & (batch.text.lengths > room))
        message = f"the question leaves too little room for the text in windows of {limit} tokens"
        return np.where(tight, limit - PAIR, room), (Rejection(tight, "question_too_long", message),)

    def _too_few(self, tokenizer: Tokenizer, room: Ints) -> Bools:
        """Return whether `room` tokens are too few to read a text in several windows."""
        least = 1 if self.compat == "hf" else least_room(self._limit(tokenizer))
        few: Bools = (room < least) | (self._overlap(tokenizer, room) > self._max_overlap(room))
        return few

    def _answers(self, batch: Batch, windows: Windows, ask: Ints, logits: Floats, null: Floats) -> RankedAnswers:
        """Decode the answers of all asks.

        ask: the ask of each window. logits: those of the text in each window, end to end. null: those of [CLS].
        """
        tokens = batch.text.tokens
        indices = ragged_ranges(tokens.offsets[:-1][windows.text] + windows.start, windows.lengths)
        columns = (tokens.start[indices], tokens.end[indices], tokens.word_ids[indices])
        (start, end), (null_start, null_end) = logits.T, null.T
        question_windows = QuestionWindows(ask, windows.lengths, start, end, null_start, null_end, *columns)
        if self.compat is None:
            return decode(
                question_windows,
                max_answer_len=self.max_answer_len,
                top_k=self.top_k,
                align_to_words=self.align_to_words,
                handle_impossible_answer=self.no_answer,
                null_threshold=self.null_threshold,
            )
        candidates, nulls = hf_candidates(
            question_windows, max_answer_len=self.max_answer_len, top_k=self.top_k, align_to_words=self.align_to_words
        )
        surface = slice_characters(
            batch.texts, self._row(candidates.ask), candidates.start, candidates.end
        ).dictionary_encode()
        # str.lower, because the lower case of Arrow differs for a few letters
        lower = pa.array([text.lower() for text in surface.dictionary.to_pylist()])
        key = lower.dictionary_encode().indices.to_numpy()[surface.indices.to_numpy()]
        return hf_merge(candidates, key, nulls if self.no_answer else None, top_k=self.top_k)

    def _row(self, ask: Ints) -> Ints:
        return ask // (len(self.questions) if self.questions else 1)

    def _column(self, batch: Batch, answers: RankedAnswers) -> pa.ListArray:
        """Return list<ANSWER>, question by question, best first."""
        row = self._row(answers.ask)
        if self.questions:
            question = pa.array(self.questions, pa.string()).take(pa.array(answers.ask % len(self.questions)))
        else:
            question = batch.input(self.question_column or "").take(pa.array(row))
        surface = slice_characters(batch.texts, row, answers.start, answers.end)
        values = [question, pa.array(answers.start), pa.array(answers.end), pa.array(answers.score), surface]
        counts = np.bincount(row, minlength=batch.rows)
        return ragged(counts, pa.StructArray.from_arrays(values, fields=list(s.ANSWER)))

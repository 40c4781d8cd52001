"""Tokens to answers: the sequences that the tasks ask for, each distinct one computed once, and every task's decoding."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc
import torch

from distilray.model.checkpoint import Checkpoint
from distilray.model.packed import Ints
from distilray.model.predictor import Head, Predictor, Reading
from distilray.model.sequences import Readout, union
from distilray.model.weights import Weights, check_weights, read_weights
from distilray.operators import schema as s
from distilray.operators.batch import read_batch
from distilray.operators.gold import Gold
from distilray.operators.task import Answer, ComputeSpec, Task, open_checkpoints, truncated_column
from distilray.operators.tokenize import Tokenizing, tokenizings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pass:
    """Tasks that share a tokenizer and an encoder, and so their sequences. tokenizing, tasks: numbers."""

    tokenizing: int
    tasks: tuple[int, ...]


def passes(tokenizers: Sequence[Tokenizing], encoders: Sequence[str]) -> list[Pass]:
    """The encoder passes that tasks need; encoders: what tells the encoder of each task from another."""
    return [
        Pass(number, tuple(i for i in tokenizing.tokenizers if encoders[i] == encoder))
        for number, tokenizing in enumerate(tokenizers)
        for encoder in dict.fromkeys(encoders[i] for i in tokenizing.tokenizers)
    ]


def read_models(tasks: Sequence[Task], checkpoints: Sequence[Checkpoint]) -> list[Weights]:
    """Every task's weights, each checkpoint read once. Raises CheckpointError for those that do not fit their task."""
    read = {id(checkpoint): checkpoint for checkpoint in checkpoints}
    weights = {key: read_weights(checkpoint) for key, checkpoint in read.items()}
    for task, checkpoint in zip(tasks, checkpoints, strict=True):
        check_weights(task.head_name(), weights[id(checkpoint)])
    return [weights[id(checkpoint)] for checkpoint in checkpoints]


@dataclass
class Predict:
    """Replaces texts and tokens by the tasks' columns and the token counts."""

    tasks: Sequence[Task]
    compute: ComputeSpec

    def __post_init__(self) -> None:
        """Loads the models; raises CheckpointError or BackendError."""
        if self.compute.threads is not None:
            torch.set_num_threads(self.compute.threads)
        checkpoints = open_checkpoints(self.tasks)
        self.tokenizings = tokenizings(self.tasks, checkpoints)
        weights = read_models(self.tasks, checkpoints)
        self.configs = [w.config for w in weights]
        self.passes = passes(self.tokenizings, [w.encoder_digest() for w in weights])
        self.predictors = [self._predictor(each, weights) for each in self.passes]
        self.backend = "; ".join(dict.fromkeys(predictor.backend for predictor in self.predictors))
        log.info("predicting on %s", self.backend)

    def _predictor(self, each: Pass, weights: Sequence[Weights]) -> Predictor:
        heads = [Head(self.tasks[i].head_name(), weights[i], self.tasks[i].depth(self.configs[i])) for i in each.tasks]
        c = self.compute
        specials = self.tokenizings[each.tokenizing].tokenizer.specials
        return Predictor(heads[0].weights, heads, specials, c.dtype, c.attention, c.tokens_per_pack)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Rows with answers, in the same order; what a task says of a dead row means nothing."""
        before = self.computed_tokens
        answers, window_tokens = self.answers(table, {})
        computed_tokens = self.computed_tokens - before
        tokens = pc.list_value_length(table[s.tokens_column(0, s.TEXT)])
        table = _bury(table, answers)
        columns = {
            s.TOKENS: tokens.cast(pa.int64()),
            s.WINDOW_TOKENS: pa.repeat(window_tokens, table.num_rows),
            s.COMPUTED_TOKENS: pa.repeat(computed_tokens, table.num_rows),
            s.BACKEND: pa.repeat(self.backend, table.num_rows),
        }
        for task, answer in zip(self.tasks, answers, strict=True):
            columns[task.name] = answer.column
            if answer.truncated is not None:
                columns[truncated_column(task)] = pa.array(answer.truncated)
        table = table.select([name for name in table.column_names if not name.startswith(s.INTERNAL)])
        for name, column in columns.items():
            table = table.append_column(name, column)
        return table

    def answers(self, table: pa.Table, gold: Mapping[str, Gold]) -> tuple[list[Answer], int]:
        """Every task's answer, judged by the gold given for it by name, and the tokens of all windows."""
        batches = [read_batch(table, number, each.tokenizer) for number, each in enumerate(self.tokenizings)]
        answers: dict[int, Answer] = {}
        window_tokens = 0
        for each, predictor in zip(self.passes, self.predictors, strict=True):
            batch, tokenizers = batches[each.tokenizing], self.tokenizings[each.tokenizing].tokenizers
            requests = [
                self.tasks[i].request(
                    replace(batch, tokenizer=tokenizers[i]), self.configs[i], gold.get(self.tasks[i].name)
                )
                for i in each.tasks
            ]
            sequences, where = union([request.sequences for request in requests])
            window_tokens += int(sequences.lengths.sum())
            readings = [_moved(request.reading, at) for request, at in zip(requests, where, strict=True)]
            outputs = predictor(batch.pool.ids, sequences, readings)
            for i, request, arrays in zip(each.tasks, requests, outputs, strict=True):
                answers[i] = request.answer(arrays)
        return [answers[i] for i in range(len(self.tasks))], window_tokens

    @property
    def computed_tokens(self) -> int:
        """Tokens that have gone through the encoders."""
        return sum(predictor.computed_tokens for predictor in self.predictors)


def _moved(reading: Reading, at: Ints) -> Reading:
    """The reading of sequences that were given other numbers."""
    runs = reading.readout
    return replace(reading, readout=Readout(at[runs.sequence], runs.start, runs.length))


def _bury(table: pa.Table, answers: Sequence[Answer]) -> pa.Table:
    """Rows that any task cannot answer are dead; the first reason counts."""
    stage, reason, message = (table[name].combine_chunks() for name in (s.DEAD_STAGE, s.DEAD_REASON, s.DEAD_MESSAGE))
    for death in (death for answer in answers for death in answer.deaths):
        dies = pc.and_(pc.is_null(reason), pa.array(death.rows))
        stage, reason, message = (
            pc.if_else(dies, value, column)
            for value, column in (("predict", stage), (death.reason, reason), (death.message, message))
        )
    for name, column in ((s.DEAD_STAGE, stage), (s.DEAD_REASON, reason), (s.DEAD_MESSAGE, message)):
        table = table.set_column(table.column_names.index(name), name, column)
    return table

"""Tokens to answers: the sequences that the tasks ask for, each distinct one computed once, and every task's decoding."""

import json
import logging
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from distilray.model.arrays import Ints
from distilray.model.checkpoint.weights import Weights
from distilray.model.errors import NotFiniteError
from distilray.model.inference.calibrate import calibrate, remembered
from distilray.model.inference.predictor import HeadSpec, Predictor
from distilray.operators.encoder_passes import EncoderPass, PassInputs, open_passes
from distilray.operators.evaluation.gold import Gold
from distilray.operators.isolation.bisect import Call, Isolation
from distilray.operators.isolation.sandbox import guarded
from distilray.operators.isolation.watchdog import Watchdog
from distilray.operators.parity import Reference
from distilray.operators.rows import schema as s
from distilray.operators.rows.reasons import NOT_FINITE
from distilray.operators.rows.timing import note, timing_of, waits
from distilray.operators.tasks.task import Answer, Rejection, Task, open_checkpoints
from distilray.operators.worker_config import ComputeSpec

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Throughput:
    """A token budget that suits every pass, and how fast they are with it. measured: now, and not remembered;
    device: "cpu" or the name of a GPU."""

    tokens_per_pack: int
    tokens_per_second: float
    measured: bool
    device: str


@dataclass
class PredictUnit:
    """Replaces texts and tokens by the tasks' columns and the token counts.

    worker: who computes, the same if it is started again.
    """

    tasks: Sequence[Task]
    compute: ComputeSpec
    isolation: Isolation | None = None
    worker: Callable[[], str] = platform.node

    def __post_init__(self) -> None:
        """Loads the models; raises CheckpointError or BackendError."""
        if self.compute.threads is not None:
            torch.set_num_threads(self.compute.threads)
        self._deadline = Watchdog(self.isolation.deadline if self.isolation else None)
        self.passes, weights = open_passes(self.tasks, open_checkpoints(self.tasks))
        self.predictors = [self._predictor(each, weights) for each in self.passes.passes]
        share = self.compute.parity
        self.reference = Reference(self.tasks, self.passes, self.predictors, share) if share else None
        self.backend = "; ".join(dict.fromkeys(predictor.backend for predictor in self.predictors))
        log.info("predicting on %s", self.backend)
        self._used, self._free = False, time.time()

    def _predictor(self, each: EncoderPass, weights: Sequence[Weights]) -> Predictor:
        heads = [
            HeadSpec(self.tasks[i].head_name(), weights[i], self.tasks[i].depth(weights[i].config)) for i in each.tasks
        ]
        c = self.compute
        specials = self.passes.tokenizings[each.tokenizing].tokenizer.specials
        w = heads[0].weights
        return Predictor(w, heads, specials, c.dtype, c.attention, c.tokens_per_pack, self._deadline.renew)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Rows with answers, in the same order; what a task says of a dead row means nothing.

        With a guard, rows that bring the operator down are dead.
        """
        start = time.time()
        result = guarded(
            self.isolation, "predict", self.answered, partial(_again, self.tasks, self.compute, self.isolation), table
        )
        if self.reference:  # outside the guard: its failures are not the rows'
            said = self.reference(table, result[s.DEAD_REASON])
            result = result.append_column(s.PARITY, pa.repeat(json.dumps(said), result.num_rows))
        starved, held = waits(self._free, timing_of(table).tokenized, start)
        waited = {"starved": starved, "held": held} if self._used else {"starting": starved + held}
        self._used, self._free = True, time.time()
        return note(result, table, predict=self._free - start, predicted=self._free, worker=self.worker(), **waited)

    def answered(self, table: pa.Table) -> pa.Table:
        """The same without a guard. Raises whatever computing raises."""
        before = self.computed_tokens
        with self._deadline:
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
                columns[task.truncated_column] = pa.array(answer.truncated)
        table = table.select([name for name in table.column_names if not name.startswith(s.INTERNAL)])
        for name, column in columns.items():
            table = table.append_column(name, column)
        return table

    def answers(self, table: pa.Table, gold: Mapping[str, Gold]) -> tuple[list[Answer], int]:
        """Every task's answer, judged by the gold given for it by name, and the tokens of all windows.

        Rows whose logits are not finite are dead; with gold, NotFiniteError is raised.
        """
        answers: dict[int, Answer] = {}
        window_tokens = 0
        for each, asked, predictor in self._asked(table, gold):
            window_tokens += int(asked.sequences.lengths.sum())
            failed = None
            try:
                outputs = predictor(asked.pool, asked.sequences, asked.head_requests)
            except NotFiniteError as error:
                if gold:
                    raise
                failed, outputs = error, error.outputs
            for i, request, arrays, where in zip(each.tasks, asked.requests, outputs, asked.where, strict=True):
                self._deadline.renew()
                answers[i] = request.answer(arrays)
                if failed:
                    answers[i] = _without(answers[i], request.rows[np.isin(where, failed.sequences)], str(failed))
        return [answers[i] for i in range(len(self.tasks))], window_tokens

    def measure_throughput(self, table: pa.Table) -> Throughput | None:
        """How fast some tokenized rows can be computed, as remembered or else measured; None if there is nothing in them."""
        budgets, tokens, seconds, measured = [], 0, 0.0, False
        for _, asked, predictor in self._asked(table, {}):
            if count := int(asked.sequences.lengths.sum()):
                known = remembered(predictor, asked.sequences)
                found = known or calibrate(predictor, asked.pool, asked.sequences)
                budgets.append(found.tokens_per_pack)
                tokens, seconds = tokens + count, seconds + count / found.tokens_per_second
                measured = measured or known is None
        device = self.predictors[0].device_name
        return Throughput(min(budgets), tokens / seconds, measured, device) if budgets else None

    def _asked(self, table: pa.Table, gold: Mapping[str, Gold]) -> Iterator[tuple[EncoderPass, PassInputs, Predictor]]:
        return zip(self.passes.passes, self.passes.inputs(table, gold), self.predictors, strict=True)

    @property
    def computed_tokens(self) -> int:
        """Tokens that have gone through the encoders."""
        return sum(predictor.computed_tokens for predictor in self.predictors)


def _again(tasks: Sequence[Task], compute: ComputeSpec, isolation: Isolation | None) -> Call:
    return PredictUnit(tasks, compute, isolation).answered


def _without(answer: Answer, rows: Ints, message: str) -> Answer:
    """The answer, with rows whose logits are not finite dead."""
    bad = np.zeros(len(answer.column), dtype=np.bool_)
    bad[rows] = True
    return replace(answer, rejections=(*answer.rejections, Rejection(bad, NOT_FINITE, message)))


def _bury(table: pa.Table, answers: Sequence[Answer]) -> pa.Table:
    """Rows that any task cannot answer are dead; the first reason counts."""
    columns = [table[name].combine_chunks() for name in s.DEATH]
    text = table[s.TEXT].combine_chunks()
    for death in (death for answer in answers for death in answer.rejections):
        dies = pc.and_(pc.is_null(columns[1]), pa.array(death.rows))
        said = ("predict", death.reason, death.message, text)
        columns = [pc.if_else(dies, value, column) for value, column in zip(said, columns, strict=True)]
    for name, column in zip(s.DEATH, columns, strict=True):
        table = table.set_column(table.column_names.index(name), name, column)
    return table

"""The predict step, which converts tokens to answers.

Each distinct sequence is computed once. Each task decodes its own outputs.
"""

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
from distilray.model.inference.calibrate import calibrate, load_calibration
from distilray.model.inference.predictor import HeadSpec, Predictor
from distilray.operators.encoder_passes import EncoderPass, PassInputs, open_passes
from distilray.operators.evaluation.gold import Gold
from distilray.operators.isolation.attempts import Isolation
from distilray.operators.isolation.bisect import Call
from distilray.operators.isolation.isolated_call import call_isolated
from distilray.operators.isolation.watchdog import Watchdog
from distilray.operators.parity import Reference
from distilray.operators.rows import schema as s
from distilray.operators.rows.reasons import NOT_FINITE
from distilray.operators.rows.timing import add_timing, timing_of, waits
from distilray.operators.tasks.task import Answer, Rejection, Task, open_checkpoints
from distilray.operators.worker_config import ComputeSpec

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Throughput:
    """A token budget that suits every pass, and the speed of all passes with it.

    measured: whether at least one pass was measured, not read from a stored calibration. device: "cpu" or the name of a
    GPU.
    """

    tokens_per_pack: int
    tokens_per_second: float
    measured: bool
    device: str


@dataclass
class PredictUnit:
    """The predict step. It replaces texts and tokens by the columns of the tasks and the token counts.

    worker: returns the name of this worker, which stays the same after a restart.
    """

    tasks: Sequence[Task]
    compute: ComputeSpec
    isolation: Isolation | None = None
    worker: Callable[[], str] = platform.node

    def __post_init__(self) -> None:
        """Load the models. Raises CheckpointError or BackendError."""
        if self.compute.threads is not None:
            torch.set_num_threads(self.compute.threads)
        self._watchdog = Watchdog(self.isolation.deadline if self.isolation else None)
        self.passes, weights = open_passes(self.tasks, open_checkpoints(self.tasks))
        self.predictors = [self._predictor(encoder_pass, weights) for encoder_pass in self.passes.passes]
        share = self.compute.parity
        self.reference = Reference(self.tasks, self.passes, self.predictors, share) if share else None
        self.backend = "; ".join(dict.fromkeys(predictor.backend for predictor in self.predictors))
        log.info("predicting on %s", self.backend)
        self._has_predicted, self._free_since = False, time.time()

    def _predictor(self, encoder_pass: EncoderPass, weights: Sequence[Weights]) -> Predictor:
        heads = [
            HeadSpec(self.tasks[i].head_name(), weights[i], self.tasks[i].depth(weights[i].config))
            for i in encoder_pass.tasks
        ]
        c = self.compute
        specials = self.passes.tokenizer_groups[encoder_pass.tokenizer_group].tokenizer.specials
        w = heads[0].weights
        return Predictor(w, heads, specials, c.dtype, c.attention, c.tokens_per_pack, self._watchdog.renew)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Return the rows with answers, in the same order. The answers of a dead row have no meaning.

        With `isolation`, rows that make the step fail become dead letters.
        """
        start = time.time()
        make_call = partial(_make_call, self.tasks, self.compute, self.isolation)
        result = call_isolated(self.isolation, "predict", self.answered, make_call, table)
        if self.reference:  # not isolated: a failure of the reference is not a failure of rows
            parity_counts = self.reference(table, result[s.DEAD_REASON])
            result = result.append_column(s.PARITY, pa.repeat(json.dumps(parity_counts), result.num_rows))
        starved, held = waits(self._free_since, timing_of(table).tokenized, start)
        waited = {"starved": starved, "held": held} if self._has_predicted else {"starting": starved + held}
        now = time.time()
        self._has_predicted, self._free_since = True, now
        return add_timing(result, table, predict=now - start, predicted=now, worker=self.worker(), **waited)

    def answered(self, table: pa.Table) -> pa.Table:
        """Answer the rows without isolation. Raises the errors of the computation."""
        before = self.computed_tokens
        with self._watchdog:
            answers, window_tokens = self.answers(table, {})
        computed_tokens = self.computed_tokens - before
        tokens = pc.list_value_length(table[s.tokens_column(0, s.TEXT)])
        table = _mark_rejected(table, answers)
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
        """Return the answer of every task and the number of tokens of all windows.

        gold: the gold by name of task, with which the answers are compared. Rows whose logits are not finite become
        dead letters. Raises NotFiniteError for such rows if there is gold.
        """
        answers: dict[int, Answer] = {}
        window_tokens = 0
        for encoder_pass, inputs, predictor in self._inputs(table, gold):
            window_tokens += int(inputs.sequences.lengths.sum())
            failure = None
            try:
                outputs = predictor(inputs.pool, inputs.sequences, inputs.head_requests)
            except NotFiniteError as error:
                if gold:
                    raise
                failure, outputs = error, error.outputs
            parts = zip(encoder_pass.tasks, inputs.requests, outputs, inputs.sequence_numbers, strict=True)
            for i, request, arrays, numbers in parts:
                self._watchdog.renew()
                answers[i] = request.answer(arrays)
                if failure:
                    rows = request.rows[np.isin(numbers, failure.sequences)]
                    answers[i] = _reject_rows(answers[i], rows, str(failure))
        return [answers[i] for i in range(len(self.tasks))], window_tokens

    def find_throughput(self, table: pa.Table) -> Throughput | None:
        """Return the throughput for some tokenized rows, or None if they have no tokens to compute.

        The throughput comes from a stored calibration, or else from a measurement.
        """
        budgets, tokens, seconds, measured = [], 0, 0.0, False
        for _, inputs, predictor in self._inputs(table, {}):
            if count := int(inputs.sequences.lengths.sum()):
                stored = load_calibration(predictor, inputs.sequences)
                calibration = stored or calibrate(predictor, inputs.pool, inputs.sequences)
                budgets.append(calibration.tokens_per_pack)
                tokens, seconds = tokens + count, seconds + count / calibration.tokens_per_second
                measured = measured or stored is None
        device = self.predictors[0].device_name
        return Throughput(min(budgets), tokens / seconds, measured, device) if budgets else None

    def _inputs(self, table: pa.Table, gold: Mapping[str, Gold]) -> Iterator[tuple[EncoderPass, PassInputs, Predictor]]:
        return zip(self.passes.passes, self.passes.inputs(table, gold), self.predictors, strict=True)

    @property
    def computed_tokens(self) -> int:
        """The number of tokens that the encoders have computed so far."""
        return sum(predictor.computed_tokens for predictor in self.predictors)


def _make_call(tasks: Sequence[Task], compute: ComputeSpec, isolation: Isolation | None) -> Call:
    return PredictUnit(tasks, compute, isolation).answered


def _reject_rows(answer: Answer, rows: Ints, message: str) -> Answer:
    """Return the answer with a rejection of the rows whose logits are not finite."""
    rejected = np.zeros(len(answer.column), dtype=np.bool_)
    rejected[rows] = True
    return replace(answer, rejections=(*answer.rejections, Rejection(rejected, NOT_FINITE, message)))


def _mark_rejected(table: pa.Table, answers: Sequence[Answer]) -> pa.Table:
    """Mark the rows that any task rejects as dead. The first reason counts."""
    columns = [table[name].combine_chunks() for name in s.DEATH]
    text = table[s.TEXT].combine_chunks()
    for rejection in (rejection for answer in answers for rejection in answer.rejections):
        newly_dead = pc.and_(pc.is_null(columns[1]), pa.array(rejection.rows))
        values = ("predict", rejection.reason, rejection.message, text)
        columns = [pc.if_else(newly_dead, value, column) for value, column in zip(values, columns, strict=True)]
    for name, column in zip(s.DEATH, columns, strict=True):
        table = table.set_column(table.column_names.index(name), name, column)
    return table

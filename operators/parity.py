"""Comparison of sampled rows of a run with a float32 reference that uses plain attention.

The comparison covers the path from tokens to logits: dtype, attention kernel and packing. It does not cover the
reading of weights, the tokenizer and the decoding of logits, which both sides share. It does not cover the run's own
forward passes either: the sampled rows go through the run's model once more, in separate packs.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from distilray.model.arrays import Floats, Ints
from distilray.model.checkpoint.weights import Weights
from distilray.model.inference.predictor import HeadSpec, Predictor
from distilray.operators.encoder_passes import EncoderPass, EncoderPasses, open_passes
from distilray.operators.objects.stats import ParityCounts
from distilray.operators.rows import schema as s
from distilray.operators.tasks.task import Task, open_checkpoints

_TOKENS_PER_PACK = 8192  # few, because plain attention stores its scores, 16 times the memory of the tokens


class Reference:
    """The encoders and heads of all passes in float32, beside the predictors of the run.

    The float32 models are loaded for the first sampled row.
    """

    def __init__(
        self, tasks: Sequence[Task], passes: EncoderPasses, predictors: Sequence[Predictor], share: float
    ) -> None:
        """Create the reference. predictors: the run's predictor of each pass. share: the share of rows to sample."""
        self.tasks, self.passes, self.predictors, self.share = tasks, passes, predictors, share

    @cached_property
    def references(self) -> list[Predictor]:
        """The float32 predictor of every pass."""
        _, weights = open_passes(self.tasks, open_checkpoints(self.tasks))
        return [self._reference(encoder_pass, weights) for encoder_pass in self.passes.passes]

    def _reference(self, encoder_pass: EncoderPass, weights: Sequence[Weights]) -> Predictor:
        heads = [
            HeadSpec(self.tasks[i].head_name(), weights[i], self.tasks[i].depth(weights[i].config))
            for i in encoder_pass.tasks
        ]
        specials = self.passes.tokenizer_groups[encoder_pass.tokenizer_group].tokenizer.specials
        return Predictor(heads[0].weights, heads, specials, "float32", "eager", _TOKENS_PER_PACK)

    def __call__(self, table: pa.Table, dead: pa.ChunkedArray) -> dict[str, ParityCounts]:
        """Compare the sampled rows of a unit, by name of task.

        table: the tokenized rows. dead: the reason of each row that has no answer, or null.
        """
        rows = table.filter(pc.and_(pa.array(self._sampled(table)), pc.is_null(dead)))
        if not rows.num_rows:  # zeros, because an absent entry would mean that the unit was not compared
            return {task.name: ParityCounts(rows=0, positions=0, flips=0, difference=0.0) for task in self.tasks}
        return dict(self._compared(rows))

    def _sampled(self, table: pa.Table) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Select the sampled rows by a hash of their address, so that every run samples the same rows."""
        numbers = pc.fill_null(table[s.ROW], 0).to_numpy().astype(np.uint64)
        name = hashlib.sha256(table[s.UNIT][0].as_py().encode()).digest()
        return _hashed(numbers, int.from_bytes(name[:8])) <= self.share * 2.0**64

    def _compared(self, rows: pa.Table) -> Iterator[tuple[str, ParityCounts]]:
        for encoder_pass, inputs, predictor, reference in zip(
            self.passes.passes, self.passes.inputs(rows), self.predictors, self.references, strict=True
        ):
            requests = [replace(request, reduce=None) for request in inputs.head_requests]
            outputs = [model(inputs.pool, inputs.sequences, requests) for model in (predictor, reference)]
            for i, request, (run,), (expected,) in zip(encoder_pass.tasks, requests, *outputs, strict=True):
                task, config = self.tasks[i], self.passes.configs[i]
                decisions = [task.decisions(logits, request, rows, config) for logits in (run, expected)]
                yield task.name, _comparison(rows.num_rows, decisions, run, expected)


def _comparison(rows: int, decisions: Sequence[Ints], run: Floats, expected: Floats) -> ParityCounts:
    """Count the differences. decisions: those of the run and of the reference. run, expected: the logits of both."""
    differs = decisions[0] != decisions[1]
    return {
        "rows": rows,
        "positions": len(differs),
        "flips": int(differs.any(axis=1).sum()),
        "difference": float(np.abs(run - expected).max(initial=0.0)),
    }


def _hashed(
    numbers: np.ndarray[tuple[int], np.dtype[np.uint64]], seed: int
) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """Spread whole numbers evenly over 64 bits with SplitMix64."""
    x = (numbers + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) ^ np.uint64(seed)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return x ^ (x >> np.uint64(31))

"""Sampled rows of a run computed again in float32 with plain attention, and what both say compared.

Checked is what lies between tokens and logits: dtype, attention kernel, packing. Not checked are the tokenizer, the weights
as they were read, and the decoding of logits, which both share; nor the very passes of the run: the sampled rows go through
the run's own model once more, in packs of their own.
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

_TOKENS_PER_PACK = 8192  # plain attention writes out its scores: 16 times as much memory as the tokens, in float32


class Reference:
    """The encoders and heads of all passes in float32, beside those of the run; loaded for the first row that is sampled."""

    def __init__(
        self, tasks: Sequence[Task], passes: EncoderPasses, predictors: Sequence[Predictor], share: float
    ) -> None:
        """predictors: of every pass; share: of the rows to sample."""
        self.tasks, self.passes, self.predictors, self.share = tasks, passes, predictors, share

    @cached_property
    def references(self) -> list[Predictor]:
        """Of every pass."""
        _, weights = open_passes(self.tasks, open_checkpoints(self.tasks))
        return [self._reference(each, weights) for each in self.passes.passes]

    def _reference(self, each: EncoderPass, weights: Sequence[Weights]) -> Predictor:
        heads = [
            HeadSpec(self.tasks[i].head_name(), weights[i], self.tasks[i].depth(weights[i].config)) for i in each.tasks
        ]
        specials = self.passes.tokenizings[each.tokenizing].tokenizer.specials
        return Predictor(heads[0].weights, heads, specials, "float32", "eager", _TOKENS_PER_PACK)

    def __call__(self, table: pa.Table, dead: pa.ChunkedArray) -> dict[str, ParityCounts]:
        """By task, how the sampled rows of a unit compare; table: tokenized; dead: a reason for each row that has no answer."""
        rows = table.filter(pc.and_(pa.array(self._sampled(table)), pc.is_null(dead)))
        if not rows.num_rows:  # said all the same: a unit without any was not compared
            return {task.name: ParityCounts(rows=0, positions=0, flips=0, difference=0.0) for task in self.tasks}
        return dict(self._compared(rows))

    def _sampled(self, table: pa.Table) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """The same rows whoever asks, and when: by a hash of their address."""
        numbers = pc.fill_null(table[s.ROW], 0).to_numpy().astype(np.uint64)
        name = hashlib.sha256(table[s.UNIT][0].as_py().encode()).digest()
        return _hashed(numbers, int.from_bytes(name[:8])) <= self.share * 2.0**64

    def _compared(self, rows: pa.Table) -> Iterator[tuple[str, ParityCounts]]:
        asked = self.passes.inputs(rows)
        for each, want, predictor, reference in zip(
            self.passes.passes, asked, self.predictors, self.references, strict=True
        ):
            requests = [replace(request, reduce=None) for request in want.head_requests]
            ours, theirs = (model(want.pool, want.sequences, requests) for model in (predictor, reference))
            for i, request, (mine,), (right,) in zip(each.tasks, requests, ours, theirs, strict=True):
                task, config = self.tasks[i], self.passes.configs[i]
                decided = [task.decisions(logits, request, rows, config) for logits in (mine, right)]
                yield task.name, _comparison(rows.num_rows, decided, mine, right)


def _comparison(rows: int, decided: Sequence[Ints], mine: Floats, right: Floats) -> ParityCounts:
    differs = decided[0] != decided[1]
    return {
        "rows": rows,
        "positions": len(differs),
        "flips": int(differs.any(axis=1).sum()),
        "difference": float(np.abs(mine - right).max(initial=0.0)),
    }


def _hashed(
    numbers: np.ndarray[tuple[int], np.dtype[np.uint64]], seed: int
) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """SplitMix64: whole numbers spread evenly over 64 bits."""
    x = (numbers + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) ^ np.uint64(seed)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return x ^ (x >> np.uint64(31))

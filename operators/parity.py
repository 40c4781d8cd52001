"""Sampled rows of a run computed again in float32 with plain attention, and what both say compared.

Checked is what lies between tokens and logits: dtype, attention kernel, packing. Not checked are the tokenizer, the weights
as they were read, and the decoding of logits, which both share; nor the very passes of the run: the sampled rows go through
the run's own model once more, in packs of their own.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from distilray.model.config import Config
from distilray.model.decode.scores import ranked_ragged
from distilray.model.packed import Floats, Ints
from distilray.model.predictor import Head, Predictor, Reading
from distilray.model.weights import Weights
from distilray.operators import schema as s
from distilray.operators.passes import Pass, Passes, open_passes
from distilray.operators.ragged import one_chunk
from distilray.operators.task import Task, open_checkpoints

_TOKENS_PER_PACK = 8192  # plain attention writes out its scores: 16 times as much memory as the tokens, in float32


class Compared(TypedDict):
    """Of one task. rows: sampled and answered; positions: where its head decides; flips: positions where the two decide
    otherwise; difference: the largest between two logits, or components of an embedding."""

    rows: int
    positions: int
    flips: int
    difference: float


class Reference:
    """The encoders and heads of all passes in float32, beside those of the run; loaded for the first row that is sampled."""

    def __init__(self, tasks: Sequence[Task], passes: Passes, predictors: Sequence[Predictor], share: float) -> None:
        """predictors: of every pass; share: of the rows to sample."""
        self.tasks, self.passes, self.predictors, self.share = tasks, passes, predictors, share

    @cached_property
    def references(self) -> list[Predictor]:
        """Of every pass."""
        _, weights = open_passes(self.tasks, open_checkpoints(self.tasks))
        return [self._reference(each, weights) for each in self.passes.passes]

    def _reference(self, each: Pass, weights: Sequence[Weights]) -> Predictor:
        heads = [
            Head(self.tasks[i].head_name(), weights[i], self.tasks[i].depth(weights[i].config)) for i in each.tasks
        ]
        specials = self.passes.tokenizings[each.tokenizing].tokenizer.specials
        return Predictor(heads[0].weights, heads, specials, "float32", "eager", _TOKENS_PER_PACK)

    def __call__(self, table: pa.Table, dead: pa.ChunkedArray) -> dict[str, Compared]:
        """By task, how the sampled rows of a unit compare; table: tokenized; dead: a reason for each row that has no answer."""
        rows = table.filter(pc.and_(pa.array(self._sampled(table)), pc.is_null(dead)))
        if not rows.num_rows:  # said all the same: a unit without any was not compared
            return {task.name: Compared(rows=0, positions=0, flips=0, difference=0.0) for task in self.tasks}
        return dict(self._compared(rows))

    def _sampled(self, table: pa.Table) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """The same rows whoever asks, and when: by a hash of their address."""
        numbers = pc.fill_null(table[s.ROW], 0).to_numpy().astype(np.uint64)
        name = hashlib.sha256(table[s.UNIT][0].as_py().encode()).digest()
        return _hashed(numbers, int.from_bytes(name[:8])) <= self.share * 2.0**64

    def _compared(self, rows: pa.Table) -> Iterator[tuple[str, Compared]]:
        asked = self.passes.ask(rows)
        for each, want, predictor, reference in zip(
            self.passes.passes, asked, self.predictors, self.references, strict=True
        ):
            readings = [replace(reading, reduce=None) for reading in want.readings]
            ours, theirs = (model(want.pool, want.sequences, readings) for model in (predictor, reference))
            for i, reading, (mine,), (right,) in zip(each.tasks, readings, ours, theirs, strict=True):
                task, config = self.tasks[i], self.passes.configs[i]
                decided = [_decisions(task, config, rows, reading, logits) for logits in (mine, right)]
                yield task.name, _comparison(rows.num_rows, decided, mine, right)


def _comparison(rows: int, decided: Sequence[Ints], mine: Floats, right: Floats) -> Compared:
    differs = decided[0] != decided[1]
    return {
        "rows": rows,
        "positions": len(differs),
        "flips": int(differs.any(axis=1).sum()),
        "difference": float(np.abs(mine - right).max(initial=0.0)),
    }


def _decisions(task: Task, config: Config, rows: pa.Table, reading: Reading, logits: Floats) -> Ints:
    """[N, K]: what logits [P, L] decide at each of N places: the best label, or each label's yes or no; K is 0 where there is
    nothing to decide."""
    match task.head_name():
        case "question-answering":  # where in a window an answer starts and ends
            return np.stack([_best(column, reading.readout.length) for column in logits.T], axis=1)
        case "multiple-choice":
            (choices,) = task.columns
            counts = pc.list_value_length(one_chunk(rows[s.input_column(choices)])).to_numpy()
            return _best(logits[:, 0], counts)[:, None]
        case "sequence-classification" if config.problem == "multi_label_classification":
            return (logits > 0).astype(np.int64)
        case "sequence-classification" if config.problem == "regression" or logits.shape[1] == 1:
            return np.empty((len(logits), 0), dtype=np.int64)
        case "token-classification" | "sequence-classification" | "masked-lm":
            best: Ints = logits.argmax(axis=1)
            return best[:, None]
        case _:
            return np.empty((len(logits), 0), dtype=np.int64)


def _best(scores: Floats, counts: Ints) -> Ints:
    """The best of each group of `counts` neighbours, by its place among all scores."""
    return ranked_ragged(scores, counts, 1)[0]


def _hashed(
    numbers: np.ndarray[tuple[int], np.dtype[np.uint64]], seed: int
) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """SplitMix64: whole numbers spread evenly over 64 bits."""
    x = (numbers + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) ^ np.uint64(seed)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return x ^ (x >> np.uint64(31))


def together(a: Mapping[str, Compared], b: Mapping[str, Compared]) -> dict[str, Compared]:
    """Of the rows of both: counts add up, the larger difference counts."""
    return {name: _sum(a[name], b[name]) if name in a and name in b else {**a, **b}[name] for name in {**a, **b}}


def _sum(a: Compared, b: Compared) -> Compared:
    return {
        "rows": a["rows"] + b["rows"],
        "positions": a["positions"] + b["positions"],
        "flips": a["flips"] + b["flips"],
        "difference": max(a["difference"], b["difference"]),
    }

"""Tokens to entities: one packed forward pass after another, then one vectorised decoding."""

import logging
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from distilray.model.decode import token_classification as tc
from distilray.model.packed import Ints, offsets_of, ragged_ranges
from distilray.model.predictor import SPECIAL_TOKENS, Predictor
from distilray.model.tokenizer import Tokenizer
from distilray.model.windows import Windows, best_window, word_starts
from distilray.operators import schema as s
from distilray.operators.ragged import flat, offsets, one_chunk, slice_characters
from distilray.operators.task import ComputeSpec, TaskSpec

log = logging.getLogger(__name__)

_INTERNAL = (s.TEXT, s.INPUT_IDS, s.WORD_IDS, s.START, s.END, s.WINDOW_START, s.WINDOW_END)


@dataclass
class Predict:
    """Replaces text and tokens by the task's column and the token counts."""

    task: TaskSpec
    compute: ComputeSpec

    def __post_init__(self) -> None:
        """Loads the model; raises CheckpointError or BackendError."""
        if self.compute.threads is not None:
            torch.set_num_threads(self.compute.threads)
        self.tokenizer = Tokenizer(self.task.checkpoint)
        self.predictor = Predictor(
            self.task.checkpoint,
            self.tokenizer.cls_id,
            self.tokenizer.sep_id,
            self.compute.dtype,
            self.compute.attention,
            self.compute.tokens_per_pack,
        )
        log.info("predicting on %s", self.predictor.backend)
        self.scheme = scheme(self.task)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Rows with entities, in the same order; a dead row has none."""
        batch = Batch.from_table(table)
        before = self.predictor.computed_tokens
        logits = self.predictor(batch.input_ids, batch.first, batch.windows.lengths)
        computed = self.predictor.computed_tokens - before
        spans = self._decode_hf(batch, logits) if self.task.hf else self._decode(batch, logits)
        spans = tc.above(spans, self.task.threshold, self.task.thresholds)
        lengths = np.diff(batch.offsets)
        columns = {
            self.task.name: entities(spans, table[s.TEXT]),
            s.TOKENS: pa.array(lengths),
            s.WINDOW_TOKENS: pa.array(batch.window_tokens),
            s.COMPUTED_TOKENS: pa.array(np.full(table.num_rows, computed)),
            s.BACKEND: pa.repeat(self.predictor.backend, table.num_rows),
        }
        if self.task.cuts_texts:
            columns[s.TRUNCATED] = pa.array(lengths > self.tokenizer.max_length - SPECIAL_TOKENS)
        table = table.drop_columns(list(_INTERNAL))
        for name, column in columns.items():
            table = table.append_column(name, column)
        return table

    def _decode(self, batch: "Batch", logits: npt.NDArray[np.float32]) -> tc.Spans:
        """Ours: one prediction a token, from the window that sees most around it; then one decoding a text."""
        logits = logits[best_window(batch.windows)]
        starts = word_starts(batch.offsets, batch.word_ids)
        return tc.decode(logits, batch.offsets, starts, batch.start, batch.end, self.scheme, self.task.aggregation)

    def _decode_hf(self, batch: "Batch", logits: npt.NDArray[np.float32]) -> tc.Spans:
        """Transformers': one decoding a window, then the spans merged."""
        lengths = batch.windows.lengths
        at = ragged_ranges(batch.first, lengths)
        input_ids, start, end = batch.input_ids[at], batch.start[at], batch.end[at]
        cu = offsets_of(lengths)
        starts = tc.hf_word_starts(cu, input_ids, end - start, self.tokenizer.token_chars, self.tokenizer.unk_id)
        spans = tc.decode(logits, cu, starts, start, end, self.scheme, self.task.aggregation)
        return tc.hf_merge_windows(spans, batch.windows.text)


@dataclass(frozen=True)
class Batch:
    """The flat arrays of a tokenized table: R texts, N tokens, W windows.

    offsets: [R + 1]; input_ids, word_ids, start, end: [N]; first: [W], where each window lies in input_ids.
    """

    offsets: Ints
    input_ids: Ints
    word_ids: Ints
    start: Ints
    end: Ints
    windows: Windows
    first: Ints

    @property
    def window_tokens(self) -> Ints:
        """[R]: the tokens of each text's windows, [CLS], [SEP] and overlaps included."""
        held = self.windows.lengths + SPECIAL_TOKENS
        return np.bincount(self.windows.text, held, minlength=len(self.offsets) - 1).astype(np.int64)

    @staticmethod
    def from_table(table: pa.Table) -> "Batch":
        """No copy is made of a table of one chunk."""
        token_offsets = offsets(table[s.INPUT_IDS])
        counts = np.diff(offsets(table[s.WINDOW_START]))
        text = np.repeat(np.arange(table.num_rows), counts)
        start, end = (flat(table[name]).astype(np.int64) for name in (s.WINDOW_START, s.WINDOW_END))
        return Batch(
            offsets=token_offsets,
            input_ids=flat(table[s.INPUT_IDS]),
            word_ids=flat(table[s.WORD_IDS]),
            start=flat(table[s.START]),
            end=flat(table[s.END]),
            windows=Windows(text, start, end),
            first=token_offsets[:-1][text] + start,
        )


def scheme(task: TaskSpec) -> tc.TagScheme:
    """How the checkpoint's labels are read."""
    labels = task.checkpoint.config.labels
    if task.aggregation == "none":
        return tc.token_scheme(labels)
    return tc.hf_scheme(labels) if task.hf else tc.detect_scheme(labels)


def entities(spans: tc.Spans, texts: pa.ChunkedArray) -> pa.ListArray:
    """Spans as list<struct<start, end, label, score, text>>, a list a text."""
    surface = slice_characters(one_chunk(texts), spans.text, spans.start, spans.end)
    label = pa.array(spans.names, pa.string()).take(pa.array(spans.label))
    values = pa.StructArray.from_arrays(
        [pa.array(spans.start), pa.array(spans.end), label, pa.array(spans.score), surface], fields=list(s.ENTITY)
    )
    counts = np.bincount(spans.text, minlength=len(texts))
    return pa.ListArray.from_arrays(pa.array(offsets_of(counts), pa.int32()), values)

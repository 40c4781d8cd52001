"""Texts to ragged tokens and windows."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from distilray.model.packed import offsets_of
from distilray.model.predictor import SPECIAL_TOKENS
from distilray.model.tokenizer import Tokenizer
from distilray.model.windows import split, split_hf
from distilray.operators import schema as s
from distilray.operators.ragged import lists
from distilray.operators.task import TaskSpec

DEFAULT_OVERLAP = 64  # 32 tokens or more around every token, for 14 % more compute on long texts


@dataclass
class Tokenize:
    """Adds the token columns of operators/schema.py; a dead row has no tokens."""

    task: TaskSpec

    def __post_init__(self) -> None:
        """Raises CheckpointError for a tokenizer that cannot be read, WindowError for an overlap that cannot be met."""
        self.tokenizer = Tokenizer(self.task.checkpoint, "special" if self.task.hf else "text")
        self.capacity = self.tokenizer.max_length - SPECIAL_TOKENS
        split_hf(np.zeros(1, dtype=np.int64), self.capacity, self.task.overlap)
        if not self.task.hf:
            split(np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.int32), self.capacity, self.overlap)

    @property
    def overlap(self) -> int:
        """Tokens that neighbouring windows of our own share."""
        return min(DEFAULT_OVERLAP, self.capacity // 4) if self.task.overlap is None else self.task.overlap

    def __call__(self, table: pa.Table) -> pa.Table:
        """The rows with the list columns input_ids, word_ids, start, end and the windows over them."""
        tokens = self.tokenizer(pc.fill_null(table[s.TEXT], "").to_pylist())
        if self.task.hf:
            windows = split_hf(tokens.offsets, self.capacity, self.task.overlap)
        else:
            windows = split(tokens.offsets, tokens.word_ids, self.capacity, self.overlap)
        in_text = offsets_of(np.bincount(windows.text, minlength=table.num_rows))
        columns = {
            s.INPUT_IDS: lists(tokens.offsets, tokens.input_ids),
            s.WORD_IDS: lists(tokens.offsets, tokens.word_ids),
            s.START: lists(tokens.offsets, tokens.start),
            s.END: lists(tokens.offsets, tokens.end),
            s.WINDOW_START: lists(in_text, windows.start),
            s.WINDOW_END: lists(in_text, windows.end),
        }
        for name, column in columns.items():
            table = table.append_column(name, column)
        return table

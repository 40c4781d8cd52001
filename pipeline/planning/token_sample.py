"""A look at a corpus without computing it: some rows from places spread over all of it."""

import time
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from distilray.model.arrays import Ints
from distilray.model.inference.sequences import Sequences
from distilray.operators.encoder_passes import EncoderPasses
from distilray.operators.rows import schema as s
from distilray.operators.rows.ragged import one_chunk
from distilray.operators.tokenize import tokenized
from distilray.pipeline.planning.forecast import Forecast
from distilray.pipeline.planning.plan import Plan
from distilray.pipeline.planning.sample_rows import sample_rows, spread_units

_PLACES, _ROWS, _BYTES = 16, 128, 2**21  # half a million tokens: a second of tokenizing at the slowest
_SURE = 0.02  # standard error of the mean length of a row, as a share of it
_BATCH = 32


@dataclass(frozen=True)
class Sample:
    """Tokenized rows of a corpus, and how many times as much all of it is. tokenize_rate: tokens a CPU second."""

    table: pa.Table
    scale: float
    tokenize_rate: float


def take_sample(plan: Plan, passes: EncoderPasses) -> Sample | None:
    """Some rows of up to 16 places, about 2 MiB of text at most, tokenized; None for a corpus without rows."""
    tables = [table for table in sample_rows(plan, spread_units(plan.units, _PLACES), _ROWS) if table.num_rows]
    tables = [_first_bytes(table, _BYTES // len(tables)) for table in tables]
    if not tables:
        return None
    halves = [pa.concat_tables(part) for part in (tables[::2], tables[1::2] or tables[:1])]
    cold = tokenized(halves[0], passes.tokenizings)
    start = time.process_time()
    warm = tokenized(halves[1], passes.tokenizings)  # other texts, with what the first ones left in caches
    rate = _tokens(warm) / max(time.process_time() - start, 1e-6)
    table = pa.concat_tables([cold, warm][: min(len(tables), 2)])
    return Sample(table, _scale(plan, tables), rate)


def forecast(sample: Sample, passes: EncoderPasses, devices: int) -> Forecast:
    """Counts what the tasks would compute for the sample, and scales it up."""
    asked = [each.sequences for each in passes.inputs(sample.table)]
    counts = (
        _tokens(sample.table),
        sum(int(sequences.lengths.sum()) for sequences in asked),
        sum(_padded(sequences) for sequences in asked),
    )
    tokens, computed, padded = (round(count * sample.scale) for count in counts)
    return Forecast(sample.table.num_rows, tokens, computed, padded, sample.tokenize_rate, devices)


def _first_bytes(table: pa.Table, most: int) -> pa.Table:
    """Rows up to and with the one that brings their text to `most` bytes."""
    return table.slice(0, int(np.searchsorted(np.cumsum(_sizes(table)), most)) + 1)


def _scale(plan: Plan, places: list[pa.Table]) -> float:
    """How many times the sample's tokens the corpus has: by its rows, or else by its bytes.

    Rows, where the places agree on how long one is. Bytes of text stand in the footers and are exact for lengths that
    differ; but Parquet keeps a text that comes often only once, and adds to short ones.
    """
    sizes = [_sizes(table) for table in places]
    sampled = sum(len(size) for size in sizes)
    by_rows: float = plan.rows / sampled
    means = np.array([size.mean() for size in sizes])
    if by_rows <= 1 or (len(means) > 1 and means.std(ddof=1) <= _SURE * means.mean() * np.sqrt(len(means))):
        return by_rows
    columns = len(_text_columns(places[0]))
    by_bytes: float = (plan.text_bytes - 4 * columns * plan.rows) / max(sum(int(size.sum()) for size in sizes), 1)
    return by_bytes if by_rows / 2 <= by_bytes <= by_rows * 2 else by_rows  # 4: bytes of each value's length


def _text_columns(table: pa.Table) -> list[str]:
    return [name for name in table.column_names if name == s.TEXT or name.startswith(s.input_column(""))]


def _sizes(table: pa.Table) -> Ints:
    """Bytes of text of each row, int64 [R]."""
    sizes = np.zeros(table.num_rows, dtype=np.int64)
    for name in _text_columns(table):
        column = one_chunk(table[name])
        if pa.types.is_list(column.type):
            lengths = pc.fill_null(pc.binary_length(column.flatten()), 0).to_numpy(zero_copy_only=False)
            rows = np.repeat(np.arange(len(column)), pc.fill_null(pc.list_value_length(column), 0).to_numpy())
            sizes += np.bincount(rows, lengths, len(column)).astype(np.int64)
        else:
            sizes += pc.fill_null(pc.binary_length(column), 0).to_numpy(zero_copy_only=False)
    return sizes


def _tokens(table: pa.Table) -> int:
    """Tokens of the texts."""
    return pc.sum(pc.list_value_length(table[s.tokens_column(0, s.TEXT)])).as_py() or 0


def _padded(sequences: Sequences) -> int:
    """Tokens of the same sequences in batches, in the order of the corpus, padded to the longest of each."""
    lengths = sequences.lengths[np.lexsort((sequences.pair_first, sequences.first))]
    if not len(lengths):
        return 0
    firsts = np.arange(0, len(lengths), _BATCH)
    counts = np.diff(np.append(firsts, len(lengths)))
    return int((np.maximum.reduceat(lengths, firsts) * counts).sum())

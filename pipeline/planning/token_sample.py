"""A tokenized sample of a corpus, and the forecast that is computed from it."""

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

# the most units, rows of each unit, and bytes of all texts: 500,000 tokens, which take at most a second to tokenize
_UNITS, _ROWS, _BYTES = 16, 128, 2**21
_MAX_STANDARD_ERROR = 0.02  # of the mean length of a row, as a share of this mean
_BATCH = 32  # rows of a padded batch, with which packing is compared


@dataclass(frozen=True)
class Sample:
    """Tokenized rows of a corpus.

    scale: the estimated tokens of the corpus divided by the tokens of the sample. tokenize_rate: tokens per CPU second.
    """

    table: pa.Table
    scale: float
    tokenize_rate: float


def take_sample(plan: Plan, passes: EncoderPasses) -> Sample | None:
    """Read and tokenize rows of up to 16 units, about 2 MiB of text at most. Return None for a corpus without rows."""
    tables = [table for table in sample_rows(plan, spread_units(plan.units, _UNITS), _ROWS) if table.num_rows]
    tables = [_first_bytes(table, _BYTES // len(tables)) for table in tables]
    if not tables:
        return None
    halves = [pa.concat_tables(part) for part in (tables[::2], tables[1::2] or tables[:1])]
    cold = tokenized(halves[0], passes.tokenizer_groups)
    start = time.process_time()
    warm = tokenized(halves[1], passes.tokenizer_groups)  # other texts, after the first half has filled the caches
    rate = _tokens(warm) / max(time.process_time() - start, 1e-6)
    table = pa.concat_tables([cold, warm][: min(len(tables), 2)])
    return Sample(table, _scale(plan, tables), rate)


def make_forecast(sample: Sample, passes: EncoderPasses, devices: int) -> Forecast:
    """Count the tokens that the tasks would compute for the sample, and scale them up to the corpus."""
    inputs = [each.sequences for each in passes.inputs(sample.table)]
    counts = (
        _tokens(sample.table),
        sum(int(sequences.lengths.sum()) for sequences in inputs),
        sum(_padded(sequences) for sequences in inputs),
    )
    tokens, computed, padded = (round(count * sample.scale) for count in counts)
    return Forecast(sample.table.num_rows, tokens, computed, padded, sample.tokenize_rate, devices)


def _first_bytes(table: pa.Table, max_bytes: int) -> pa.Table:
    """Return the first rows, up to the row with which the sum of their text reaches `max_bytes`."""
    return table.slice(0, int(np.searchsorted(np.cumsum(_sizes(table)), max_bytes)) + 1)


def _scale(plan: Plan, tables: list[pa.Table]) -> float:
    """Estimate the tokens of the corpus divided by the tokens of the sample, from counts of rows or of bytes.

    Rows are used if the mean length of a row is similar in all tables of the sample. Otherwise the bytes of text in the
    footers are more exact. These bytes are too few where texts repeat, because a Parquet dictionary stores a repeated
    text once. They are too many for short texts, because Parquet stores a length of 4 bytes with each value.
    """
    sizes = [_sizes(table) for table in tables]
    sampled = sum(len(size) for size in sizes)
    by_rows: float = plan.rows / sampled
    means = np.array([size.mean() for size in sizes])
    if by_rows <= 1 or (
        len(means) > 1 and means.std(ddof=1) <= _MAX_STANDARD_ERROR * means.mean() * np.sqrt(len(means))
    ):
        return by_rows
    columns = len(_text_columns(tables[0]))
    by_bytes: float = (plan.text_bytes - 4 * columns * plan.rows) / max(sum(int(size.sum()) for size in sizes), 1)
    return by_bytes if by_rows / 2 <= by_bytes <= by_rows * 2 else by_rows


def _text_columns(table: pa.Table) -> list[str]:
    return [name for name in table.column_names if name == s.TEXT or name.startswith(s.input_column(""))]


def _sizes(table: pa.Table) -> Ints:
    """Return the bytes of text of each row, int64 [R]."""
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
    """Return the number of tokens of the texts."""
    return pc.sum(pc.list_value_length(table[s.tokens_column(0, s.TEXT)])).as_py() or 0


def _padded(sequences: Sequences) -> int:
    """Return the number of tokens if sequences are batched in the order of the corpus and padded to the longest one."""
    lengths = sequences.lengths[np.lexsort((sequences.pair_first, sequences.first))]
    if not len(lengths):
        return 0
    firsts = np.arange(0, len(lengths), _BATCH)
    counts = np.diff(np.append(firsts, len(lengths)))
    return int((np.maximum.reduceat(lengths, firsts) * counts).sum())

"""Packs of sequences, laid end to end without padding."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from distilray.model.arrays import Ints, offsets_of, ragged_arange, run_lengths


@dataclass(frozen=True)
class Pack:
    """T tokens of B sequences, laid end to end, with the sequences in order of length.

    input_ids, position_ids: int32 [T]. cu_seqlens: int32 [B + 1], the start of each sequence. max_seqlen: the length of
    the longest sequence. groups: (first token, number of sequences, their length) of each group of sequences of
    equal length.
    """

    input_ids: Tensor
    position_ids: Tensor
    cu_seqlens: Tensor
    max_seqlen: int
    groups: tuple[tuple[int, int, int], ...]


def make_pack(input_ids: Ints, lengths: Ints) -> Pack:
    """Make a pack on the host from sequences that already lie end to end in order of length.

    input_ids: [sum(lengths)]. lengths: [B], monotonic, all positive.
    """
    cu_seqlens = offsets_of(lengths)
    group_lengths, group_sizes = run_lengths(lengths)
    first_tokens = cu_seqlens[offsets_of(group_sizes)[:-1]]
    return Pack(
        input_ids=torch.from_numpy(np.ascontiguousarray(input_ids, dtype=np.int32)),
        position_ids=torch.from_numpy(ragged_arange(lengths).astype(np.int32)),
        cu_seqlens=torch.from_numpy(cu_seqlens.astype(np.int32)),
        max_seqlen=int(lengths.max(initial=0)),
        groups=tuple(zip(first_tokens.tolist(), group_sizes.tolist(), group_lengths.tolist(), strict=True)),
    )

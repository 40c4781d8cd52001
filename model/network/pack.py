"""Packs: sequences end to end, without padding."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from distilray.model.arrays import Ints, offsets_of, ragged_arange, run_lengths


@dataclass(frozen=True)
class Pack:
    """T tokens of B sequences, laid end to end, the sequences in order of length.

    input_ids, position_ids: int32 [T]; cu_seqlens: int32 [B + 1], where each sequence starts.
    groups: (first token, number of sequences, their length) for each run of equally long ones.
    """

    input_ids: Tensor
    position_ids: Tensor
    cu_seqlens: Tensor
    max_seqlen: int
    groups: tuple[tuple[int, int, int], ...]


def make_pack(input_ids: Ints, lengths: Ints) -> Pack:
    """A pack, on the host, of sequences that already lie end to end in order of length.

    input_ids: [sum(lengths)]; lengths: [B], monotonic, all positive.
    """
    cu_seqlens = offsets_of(lengths)
    distinct, counts = run_lengths(lengths)
    firsts = cu_seqlens[offsets_of(counts)[:-1]]
    return Pack(
        input_ids=torch.from_numpy(np.ascontiguousarray(input_ids, dtype=np.int32)),
        position_ids=torch.from_numpy(ragged_arange(lengths).astype(np.int32)),
        cu_seqlens=torch.from_numpy(cu_seqlens.astype(np.int32)),
        max_seqlen=int(lengths.max(initial=0)),
        groups=tuple(zip(firsts.tolist(), counts.tolist(), distinct.tolist(), strict=True)),
    )

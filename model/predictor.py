"""From token sequences to what heads say of them: sort, pack to a token budget, one forward pass a pack."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from distilray.model.attention import AttentionName, choose_attention
from distilray.model.device import DtypeName, choose_device, choose_dtype
from distilray.model.heads import HeadName
from distilray.model.packed import Ints, Pack, budget_slices, make_pack, offsets_of, ragged_ranges
from distilray.model.sequences import Readout, Sequences, Specials
from distilray.model.weights import Weights, load_encoder, load_head

# tokens a pass: enough to keep the device busy, few enough for its memory; measured, see docs/performance.md
_TOKENS_PER_PACK = {"cpu": 8192, "cuda": 65536}

# outputs worth reducing are wide, such as a vocabulary: so many at a time bound their memory
_REDUCED_AT_ONCE = 1024

Arrays = tuple[npt.NDArray[Any], ...]
Reduce = Callable[[Tensor, Ints], tuple[Tensor, ...]]


@dataclass(frozen=True)
class Head:
    """A head to load: its kind, its checkpoint, and the depth it reads, counted in layers (0: the embeddings)."""

    name: HeadName
    weights: Weights
    depth: int


@dataclass(frozen=True)
class Reading:
    """What to read with a head. reduce: applied on the device to float32 outputs [P, ...] and the P numbers of the
    positions (in the readout's order), to bring back less than logits; None: bring back the outputs."""

    readout: Readout
    reduce: Reduce | None = None


class Predictor:
    """One encoder and the heads upon it, on their device."""

    def __init__(
        self,
        encoder: Weights,
        heads: Sequence[Head],
        specials: Specials,
        dtype: DtypeName = "auto",
        attention: AttentionName = "auto",
        tokens_per_pack: int | None = None,
    ) -> None:
        """The weights must have been checked. Raises BackendError for a backend that cannot be had."""
        self.device = choose_device()
        torch_dtype = choose_dtype(dtype, self.device)
        chosen = choose_attention(attention, self.device, torch_dtype, encoder.config.head_dim)
        self.encoder = load_encoder(encoder, chosen, torch_dtype).to(self.device)
        self.heads = [load_head(head.name, head.weights, torch_dtype).to(self.device) for head in heads]
        self.depths = [head.depth for head in heads]
        self.specials = specials
        self.tokens_per_pack = tokens_per_pack or _TOKENS_PER_PACK[self.device.type]
        self.config = encoder.config
        self.device_name = torch.cuda.get_device_name() if self.device.type == "cuda" else "cpu"
        self.precision, self.attention = str(torch_dtype).removeprefix("torch."), chosen.name
        self.backend = f"{self.device_name}, {self.precision}, {chosen.name} ({chosen.reason})"  # logs, the manifest
        self.computed_tokens = 0  # counted where the model runs, so that padding could not hide

    @torch.inference_mode()
    def __call__(self, pool: Ints, sequences: Sequences, readings: Sequence[Reading]) -> list[Arrays]:
        """For each head, what its reading asks for, in the order of its runs.

        pool: [N] token ids that the sequences are slices of. Raises FloatingPointError for logits that are not finite.
        """
        order = np.argsort(sequences.lengths, kind="stable")
        laid = sequences.take(order)
        ids, cu = laid.assemble(pool, self.specials), offsets_of(laid.lengths)
        begins = np.empty(len(order), dtype=np.int64)
        begins[order] = cu[:-1]
        reads = [_Read(begins, reading) for reading in readings]
        for part in list(budget_slices(laid.lengths, self.tokens_per_pack)) or [slice(0, 0)]:
            first, last = int(cu[part.start]), int(cu[part.stop])
            self._forward(make_pack(ids[first:last], laid.lengths[part]), first, reads)
        return [read.result() for read in reads]

    def _forward(self, pack: Pack, first: int, reads: Sequence["_Read"]) -> None:
        """One pass; `first` is the number of the pack's first token among all."""
        pack = pack.to(self.device)
        tokens = pack.input_ids.numel()
        self.computed_tokens += tokens
        nothing = self.encoder.word_embeddings.weight[:0]  # no sequences: outputs of no rows, in their shapes
        hidden = self.encoder(pack, set(self.depths)) if tokens else dict.fromkeys(self.depths, nothing)
        for read, head, depth in zip(reads, self.heads, self.depths, strict=True):
            for at, numbers in read.within(first, first + tokens):
                logits = head(hidden[depth], torch.from_numpy(at).to(self.device), pack).float()
                if not torch.isfinite(logits).all():
                    raise FloatingPointError(f"NaN or infinite logits on {self.backend}; try dtype bfloat16 or float32")
                read.keep(logits, numbers)


class _Read:
    """A readout over sequences laid in order of length, filled pack by pack."""

    def __init__(self, begins: Ints, reading: Reading) -> None:
        runs = reading.readout
        starts = begins[runs.sequence] + runs.start
        self._reduce = reading.reduce
        self._most = _REDUCED_AT_ONCE if reading.reduce else max(1, int(runs.length.sum()))
        order = np.argsort(starts, kind="stable")
        self._at = ragged_ranges(starts[order], runs.length[order])
        self._numbers = ragged_ranges(offsets_of(runs.length)[:-1][order], runs.length[order])
        self._parts: list[Arrays] = []
        self._asked: list[Ints] = []

    def within(self, first: int, last: int) -> Iterator[tuple[Ints, Ints]]:
        """The positions inside tokens [first, last), counted from `first`, and their numbers in the readout's order."""
        a, b = np.searchsorted(self._at, (first, last))
        for i in range(a, max(b, a + 1), self._most):
            part = slice(i, min(i + self._most, b))
            yield self._at[part] - first, self._numbers[part]

    def keep(self, logits: Tensor, numbers: Ints) -> None:
        outputs = self._reduce(logits, numbers) if self._reduce else (logits,)
        self._parts.append(tuple(output.cpu().numpy() for output in outputs))
        self._asked.append(numbers)

    def result(self) -> Arrays:
        """All positions' outputs, in the readout's order."""
        outputs = tuple(np.concatenate(parts) for parts in zip(*self._parts, strict=True))
        numbers = np.concatenate(self._asked)
        for output in outputs:
            output[numbers] = output.copy()
        return outputs

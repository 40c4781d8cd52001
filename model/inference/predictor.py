"""From token sequences to what heads say of them: sort, pack to a token budget, one forward pass a pack.

While the device computes a pack, the host lays the next one and collects the outputs of the one before.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from distilray.model.arrays import Arrays, Ints, offsets_of, pack_end, ragged_ranges
from distilray.model.checkpoint.weights import Weights, load_encoder, load_head
from distilray.model.errors import DeviceMemoryError, NotFiniteError
from distilray.model.inference.device import choose_device, choose_dtype
from distilray.model.inference.requests import HeadRequest
from distilray.model.inference.sequences import Sequences
from distilray.model.inference.transfer import PendingOutputs, send
from distilray.model.network.attention import choose_attention
from distilray.model.network.names import AttentionName, DtypeName, HeadName
from distilray.model.network.pack import Pack, make_pack
from distilray.model.tokenizer.tokens import SpecialTokenIds

log = logging.getLogger(__name__)

# tokens a pass: enough to keep the device busy, few enough for its memory; measured, see docs/performance.md
_TOKENS_PER_PACK = {"cpu": 8192, "cuda": 65536}
_HUGE = 1e17  # sums of larger outputs, or their squares, may be infinite in float32


@dataclass(frozen=True)
class HeadSpec:
    """A head to load: its kind, its checkpoint, and the depth it reads, counted in layers (0: the embeddings)."""

    name: HeadName
    weights: Weights
    depth: int


class Predictor:
    """One encoder and the heads upon it, on their device."""

    def __init__(
        self,
        encoder: Weights,
        heads: Sequence[HeadSpec],
        specials: SpecialTokenIds,
        dtype: DtypeName = "auto",
        attention: AttentionName = "auto",
        tokens_per_pack: int | None = None,
        on_pack: Callable[[], None] = lambda: None,
    ) -> None:
        """The weights must have been checked. on_pack: called for every pack, so that others see progress.

        Raises BackendError for a backend that cannot be had.
        """
        self.on_pack = on_pack
        self.device = choose_device()
        torch_dtype = choose_dtype(dtype, self.device)
        chosen = choose_attention(attention, self.device, torch_dtype, encoder.config.head_dim)
        self.encoder = load_encoder(encoder, chosen, torch_dtype).to(self.device)
        self.heads = [load_head(head.name, head.weights, torch_dtype).to(self.device) for head in heads]
        self.head_names = [head.name for head in heads]
        self.depths = [head.depth for head in heads]
        self.specials = specials
        self.tokens_per_pack = self.budget = tokens_per_pack or _TOKENS_PER_PACK[self.device.type]
        self.config = encoder.config
        self.device_name = torch.cuda.get_device_name() if self.device.type == "cuda" else "cpu"
        self.precision, self.attention = str(torch_dtype).removeprefix("torch."), chosen.name
        self.backend = f"{self.device_name}, {self.precision}, {chosen.name} ({chosen.reason})"  # logs, the manifest
        self.computed_tokens = 0  # where the model runs: padding could not hide. A pack that is tried again counts once

    @torch.inference_mode()
    def __call__(self, pool: Ints, sequences: Sequences, requests: Sequence[HeadRequest]) -> list[Arrays]:
        """For each head, what its reading asks for, in the order of its runs.

        pool: [N] token ids that the sequences are slices of. Where a pack of `tokens_per_pack` does not fit in the
        device's memory, it and the call's other packs are halved; the next call begins anew, for how its packs are cut,
        and so the last bits of its outputs, must not depend on what was computed before. Raises NotFiniteError at the
        end for outputs that are not finite, DeviceMemoryError if a single sequence does not fit: no text is to blame for that.
        """
        self.budget = self.tokens_per_pack
        order = np.argsort(sequences.lengths, kind="stable")
        laid = sequences.take(order)
        ids, lengths = laid.assemble(pool, self.specials), laid.lengths
        cu = offsets_of(lengths)
        begins = np.empty(len(order), dtype=np.int64)
        begins[order] = cu[:-1]
        reads = [_OutputBuffer(begins, request) for request in requests]
        first, computing = 0, None
        while first < len(order) or computing is None:  # no sequences: one pack of none, for the outputs' shapes
            last = pack_end(cu, first, self.budget)
            tokens = slice(int(cu[first]), int(cu[last]))
            self.on_pack()
            launched = self._launch(make_pack(ids[tokens], lengths[first:last]), tokens, reads)
            if launched is None:
                continue  # with a smaller budget
            if computing is not None:
                self._collect(computing)  # the pack before, while this one computes
            first, computing = last, launched
        self._collect(computing)
        outputs = [read.result() for read in reads]
        if bad := [
            request.positions.sequence[read.runs()] for read, request in zip(reads, requests, strict=True) if read.bad
        ]:
            raise NotFiniteError(self.backend, np.unique(np.concatenate(bad)), outputs)
        return outputs

    def _launch(self, pack: Pack, tokens: slice, reads: Sequence["_OutputBuffer"]) -> "_Computing | None":
        """One pass, which the device may still compute on return; None if its memory ended, and the budget is smaller.

        tokens: which of all tokens the pack holds.
        """
        count = tokens.stop - tokens.start
        try:
            launched = self._forward(pack, tokens, reads)
        except torch.OutOfMemoryError as error:
            if len(pack.cu_seqlens) <= 2:
                raise DeviceMemoryError(
                    f"a single sequence of {count} tokens does not fit in the memory of {self.backend}: "
                    "free memory there, or give it fewer tasks at once"
                ) from error
        else:
            self.computed_tokens += count
            return launched
        while self.budget >= count:
            self.budget //= 2
        log.warning(
            "%d tokens do not fit in the memory of %s: at most %d for now; tokens_per_pack: %d would spare the attempts",
            count,
            self.backend,
            self.budget,
            self.budget,
        )
        return None

    def _forward(self, pack: Pack, tokens: slice, reads: Sequence["_OutputBuffer"]) -> "_Computing":
        parts = [(i, at, numbers) for i, read in enumerate(reads) for at, numbers in read.within(tokens)]
        sent, positions = send(pack, [at for _, at, _ in parts], self.device)
        nothing = self.encoder.word_embeddings.weight[:0]  # no tokens: outputs of no rows, in their shapes
        some = tokens.stop > tokens.start
        hidden = self.encoder(sent, set(self.depths)) if some else dict.fromkeys(self.depths, nothing)
        every = torch.ones((), dtype=torch.bool, device=self.device)
        found: list[_Part] = []
        outputs: list[Tensor] = []
        for (i, _, numbers), at in zip(parts, positions, strict=True):
            logits = self.heads[i](hidden[self.depths[i]], at, sent).float()
            finite = (logits.abs() < _HUGE).flatten(1).all(1)  # NaN is not
            every = every & finite.all()  # no look at it here: that would wait for the device
            logits = logits.masked_fill(~finite.view(-1, *[1] * (logits.ndim - 1)), 0)  # decoding need not know of NaN
            reduce = reads[i].reduce
            results = reduce(logits, numbers) if reduce else (logits,)
            found.append((reads[i], numbers, finite, len(results)))
            outputs += results
        return found, PendingOutputs([every, *outputs])

    def _collect(self, computing: "_Computing") -> None:
        """Puts a pack's outputs in their places; waits for the device."""
        found, returning = computing
        every, *arrays = returning.arrays()
        outputs = iter(arrays)
        for read, numbers, finite, count in found:
            read.keep(numbers, tuple(islice(outputs, count)))
            if not every:
                read.bad.append(numbers[~finite.cpu().numpy()])


class _OutputBuffer:
    """A readout over sequences laid in order of length, filled pack by pack."""

    def __init__(self, begins: Ints, request: HeadRequest) -> None:
        runs = request.positions
        starts = begins[runs.sequence] + runs.start
        self.reduce = request.reduce
        self._most = request.at_once or max(1, int(runs.length.sum()))
        order = np.argsort(starts, kind="stable")
        self._at = ragged_ranges(starts[order], runs.length[order])
        self._numbers = ragged_ranges(offsets_of(runs.length)[:-1][order], runs.length[order])
        self._arrays: Arrays | None = None
        self._ends = np.cumsum(runs.length)
        self.bad: list[Ints] = []  # numbers of positions whose outputs are not finite, of packs that have any

    def within(self, tokens: slice) -> Iterator[tuple[Ints, Ints]]:
        """The positions inside those tokens, counted from the first, and their numbers in the readout's order."""
        a, b = np.searchsorted(self._at, (tokens.start, tokens.stop))
        for i in range(a, max(b, a + 1), self._most):
            part = slice(i, min(i + self._most, b))
            yield self._at[part] - tokens.start, self._numbers[part]

    def keep(self, numbers: Ints, outputs: Arrays) -> None:
        if self._arrays is None:
            self._arrays = tuple(np.empty((len(self._at), *each.shape[1:]), dtype=each.dtype) for each in outputs)
        for array, output in zip(self._arrays, outputs, strict=True):
            array[numbers] = output

    def runs(self) -> Ints:
        """The runs with positions that are not finite."""
        return np.searchsorted(self._ends, np.concatenate(self.bad), "right")

    def result(self) -> Arrays:
        """All positions' outputs, in the readout's order."""
        if self._arrays is None:
            raise RuntimeError("expected outputs of one pack at least, got none")
        return self._arrays


# a reading, the numbers of some of its positions, which of them are finite, and how many outputs it has of them
_Part = tuple[_OutputBuffer, Ints, Tensor, int]
_Computing = tuple[list[_Part], PendingOutputs]

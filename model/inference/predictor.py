"""The predictor, which computes token sequences and returns the outputs of heads.

It sorts the sequences by length, cuts them into packs of a token budget, and runs one forward pass per pack. While the
device computes a pack, the host prepares the next one and collects the outputs of the previous one.
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

# tokens per pack: enough to keep the device busy, few enough for its memory; for measurements see docs/performance.md
_TOKENS_PER_PACK = {"cpu": 8192, "cuda": 65536}
_MAX_OUTPUT = 1e17  # the sums and squares of larger outputs may be infinite in float32


@dataclass(frozen=True)
class HeadSpec:
    """A head to load.

    name: its kind. weights: its checkpoint. depth: the number of layers below it (0: the embeddings).
    """

    name: HeadName
    weights: Weights
    depth: int


class Predictor:
    """One encoder and its heads on their device."""

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
        """Load the encoder and its heads. The weights must have been checked.

        on_pack: called before each pack, so that the caller can observe progress. Raises BackendError if the dtype or
        the attention kernel is not available.
        """
        self.on_pack = on_pack
        self.device = choose_device()
        torch_dtype = choose_dtype(dtype, self.device)
        chosen_attention = choose_attention(attention, self.device, torch_dtype, encoder.config.head_dim)
        self.encoder = load_encoder(encoder, chosen_attention, torch_dtype).to(self.device)
        self.heads = [load_head(head.name, head.weights, torch_dtype).to(self.device) for head in heads]
        self.head_names = [head.name for head in heads]
        self.depths = [head.depth for head in heads]
        self.specials = specials
        self.tokens_per_pack = self.budget = tokens_per_pack or _TOKENS_PER_PACK[self.device.type]
        self.config = encoder.config
        self.device_name = torch.cuda.get_device_name() if self.device.type == "cuda" else "cpu"
        self.precision, self.attention = str(torch_dtype).removeprefix("torch."), chosen_attention.name
        # for logs and the manifest
        self.backend = f"{self.device_name}, {self.precision}, {chosen_attention.name} ({chosen_attention.reason})"
        self.computed_tokens = 0  # the tokens given to the model, padding included; a retried pack counts once

    @torch.inference_mode()
    def __call__(self, pool: Ints, sequences: Sequences, requests: Sequence[HeadRequest]) -> list[Arrays]:
        """Compute the outputs of each head for its request. Outputs are in the order of the request's positions.

        pool: [N] token ids; the sequences are slices of it.

        If a pack of `tokens_per_pack` does not fit in the device's memory, the budget of this call is halved. The next
        call starts with the full budget again. The division into packs decides the last bits of outputs, and these must
        not depend on earlier calls.

        Raises NotFiniteError at the end for outputs that are not finite, and DeviceMemoryError if a single sequence
        does not fit. A DeviceMemoryError is not caused by the text.
        """
        self.budget = self.tokens_per_pack
        order = np.argsort(sequences.lengths, kind="stable")
        by_length = sequences.take(order)
        ids, lengths = by_length.assemble(pool, self.specials), by_length.lengths
        cu_seqlens = offsets_of(lengths)
        starts = np.empty(len(order), dtype=np.int64)
        starts[order] = cu_seqlens[:-1]
        buffers = [_OutputBuffer(starts, request) for request in requests]
        first, in_flight = 0, None
        while first < len(order) or in_flight is None:  # without sequences, an empty pack gives the outputs' shapes
            last = pack_end(cu_seqlens, first, self.budget)
            tokens = slice(int(cu_seqlens[first]), int(cu_seqlens[last]))
            self.on_pack()
            launched = self._launch(make_pack(ids[tokens], lengths[first:last]), tokens, buffers)
            if launched is None:
                continue  # repeat with a smaller budget
            if in_flight is not None:
                self._collect(in_flight)  # the previous pack, while the device computes this one
            first, in_flight = last, launched
        self._collect(in_flight)
        outputs = [buffer.result() for buffer in buffers]
        if not_finite := [
            request.positions.sequence[buffer.ranges_not_finite()]
            for buffer, request in zip(buffers, requests, strict=True)
            if buffer.not_finite
        ]:
            raise NotFiniteError(self.backend, np.unique(np.concatenate(not_finite)), outputs)
        return outputs

    def _launch(self, pack: Pack, tokens: slice, buffers: Sequence["_OutputBuffer"]) -> "_LaunchedPack | None":
        """Start one forward pass. The device may still compute it when this method returns.

        tokens: the slice of all tokens that the pack holds. If the device's memory is full, reduce the budget and
        return None. Raises DeviceMemoryError if the pack is a single sequence.
        """
        count = tokens.stop - tokens.start
        try:
            launched = self._forward(pack, tokens, buffers)
        except torch.OutOfMemoryError as error:
            if len(pack.cu_seqlens) <= 2:
                raise DeviceMemoryError(
                    f"a single sequence of {count} tokens does not fit in the memory of {self.backend}: "
                    "free memory on the device, or run fewer tasks at once"
                ) from error
        else:
            self.computed_tokens += count
            return launched
        while self.budget >= count:
            self.budget //= 2
        log.warning(
            "%d tokens do not fit in the memory of %s: packs have at most %d tokens for now; "
            "set tokens_per_pack: %d to avoid failed attempts",
            count,
            self.backend,
            self.budget,
            self.budget,
        )
        return None

    def _forward(self, pack: Pack, tokens: slice, buffers: Sequence["_OutputBuffer"]) -> "_LaunchedPack":
        parts = [(i, at, numbers) for i, buffer in enumerate(buffers) for at, numbers in buffer.within(tokens)]
        device_pack, device_positions = send(pack, [at for _, at, _ in parts], self.device)
        no_tokens = self.encoder.word_embeddings.weight[:0]  # gives outputs without rows, in their shapes
        has_tokens = tokens.stop > tokens.start
        hidden = self.encoder(device_pack, set(self.depths)) if has_tokens else dict.fromkeys(self.depths, no_tokens)
        all_finite = torch.ones((), dtype=torch.bool, device=self.device)
        launched_parts: list[_LaunchedPart] = []
        outputs: list[Tensor] = []
        for (i, _, numbers), at in zip(parts, device_positions, strict=True):
            logits = self.heads[i](hidden[self.depths[i]], at, device_pack).float()
            finite = (logits.abs() < _MAX_OUTPUT).flatten(1).all(1)  # false for NaN
            all_finite = all_finite & finite.all()  # stays on the device: reading it here would wait for the device
            logits = logits.masked_fill(~finite.view(-1, *[1] * (logits.ndim - 1)), 0)  # decoding then meets no NaN
            reduce = buffers[i].reduce
            results = reduce(logits, numbers) if reduce else (logits,)
            launched_parts.append((buffers[i], numbers, finite, len(results)))
            outputs += results
        return launched_parts, PendingOutputs([all_finite, *outputs])

    def _collect(self, launched: "_LaunchedPack") -> None:
        """Wait for the device, and write the outputs of a pack to the buffers."""
        parts, pending = launched
        all_finite, *arrays = pending.arrays()
        outputs = iter(arrays)
        for buffer, numbers, finite, count in parts:
            buffer.write(numbers, tuple(islice(outputs, count)))
            if not all_finite:
                buffer.not_finite.append(numbers[~finite.cpu().numpy()])


class _OutputBuffer:
    """The outputs of one request, filled pack by pack. The packs hold the sequences in order of length."""

    def __init__(self, sequence_starts: Ints, request: HeadRequest) -> None:
        """Create the buffer. sequence_starts: the first token of each sequence, counted in order of length."""
        ranges = request.positions
        starts = sequence_starts[ranges.sequence] + ranges.start
        self.reduce = request.reduce
        self._at_once = request.at_once or max(1, int(ranges.length.sum()))
        order = np.argsort(starts, kind="stable")
        self._tokens = ragged_ranges(starts[order], ranges.length[order])
        self._numbers = ragged_ranges(offsets_of(ranges.length)[:-1][order], ranges.length[order])
        self._arrays: Arrays | None = None
        self._ends = np.cumsum(ranges.length)
        self.not_finite: list[Ints] = []  # numbers of positions with outputs that are not finite, of each pack with any

    def within(self, tokens: slice) -> Iterator[tuple[Ints, Ints]]:
        """Yield the positions of the request in a slice of tokens, and their numbers in the request.

        Positions are counted from the start of the slice. Each part has at most `at_once` positions.
        """
        a, b = np.searchsorted(self._tokens, (tokens.start, tokens.stop))
        for i in range(a, max(b, a + 1), self._at_once):
            part = slice(i, min(i + self._at_once, b))
            yield self._tokens[part] - tokens.start, self._numbers[part]

    def write(self, numbers: Ints, outputs: Arrays) -> None:
        if self._arrays is None:
            self._arrays = tuple(
                np.empty((len(self._tokens), *output.shape[1:]), dtype=output.dtype) for output in outputs
            )
        for array, output in zip(self._arrays, outputs, strict=True):
            array[numbers] = output

    def ranges_not_finite(self) -> Ints:
        """Return the numbers of the ranges whose outputs are not finite."""
        return np.searchsorted(self._ends, np.concatenate(self.not_finite), "right")

    def result(self) -> Arrays:
        """Return the outputs of all positions, in the order of the request."""
        if self._arrays is None:
            raise RuntimeError("expected outputs of at least one pack, got none")
        return self._arrays


# a buffer, the numbers of some of its positions, whether each is finite, and the number of output arrays
_LaunchedPart = tuple[_OutputBuffer, Ints, Tensor, int]
_LaunchedPack = tuple[list[_LaunchedPart], PendingOutputs]

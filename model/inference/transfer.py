"""Transfers between host and device. A pack goes to the device in one copy. Outputs are copied while the next pack is computed.

With CUDA, copies are asynchronous and use pinned memory, which torch's allocator keeps until they are complete. Copies
and kernels are in one queue. The 8 bytes per token of a pack cost little compared with its computation.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from distilray.model.arrays import Ints
from distilray.model.network.pack import Pack


def send(pack: Pack, positions: Sequence[Ints], device: torch.device) -> tuple[Pack, list[Tensor]]:
    """Copy a pack and positions in it to the device. Return views of one int32 buffer."""
    parts = [pack.input_ids.numpy(), pack.position_ids.numpy(), pack.cu_seqlens.numpy(), *positions]
    sizes = [len(part) for part in parts]
    buffer = torch.empty(sum(sizes), dtype=torch.int32, pin_memory=device.type == "cuda")
    np.concatenate(parts, out=buffer.numpy(), casting="same_kind")
    input_ids, position_ids, cu_seqlens, *device_positions = torch.split(buffer.to(device, non_blocking=True), sizes)
    return Pack(input_ids, position_ids, cu_seqlens, pack.max_seqlen, pack.groups), device_positions


class PendingOutputs:
    """Tensors that are being copied to the host."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._copied = None
        if any(tensor.is_cuda for tensor in tensors):
            tensors = [_pinned_like(tensor).copy_(tensor, non_blocking=True) for tensor in tensors]
            # blocking: a thread that waits uses no core
            self._copied = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
            self._copied.record()
        self._tensors = tensors

    def arrays(self) -> list[npt.NDArray[np.generic]]:
        """Wait for the copies and return them."""
        if self._copied is not None:
            self._copied.synchronize()
        return [tensor.numpy() for tensor in self._tensors]


def _pinned_like(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)

"""Between host and device: a pack goes over in one copy, results come back while the next pack computes.

Copies are asynchronous where there is CUDA, from and to pinned memory, which torch's allocator keeps until they are done.
They queue with the kernels: a pack's 8 bytes a token are nothing beside its computing.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from distilray.model.arrays import Ints
from distilray.model.network.pack import Pack


def send(pack: Pack, positions: Sequence[Ints], device: torch.device) -> tuple[Pack, list[Tensor]]:
    """A pack and positions in it on the device, int32, as views of one buffer."""
    parts = [pack.input_ids.numpy(), pack.position_ids.numpy(), pack.cu_seqlens.numpy(), *positions]
    sizes = [len(part) for part in parts]
    buffer = torch.empty(sum(sizes), dtype=torch.int32, pin_memory=device.type == "cuda")
    np.concatenate(parts, out=buffer.numpy(), casting="same_kind")
    input_ids, position_ids, cu_seqlens, *at = torch.split(buffer.to(device, non_blocking=True), sizes)
    return Pack(input_ids, position_ids, cu_seqlens, pack.max_seqlen, pack.groups), at


class PendingOutputs:
    """Tensors on their way to the host."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._arrived = None
        if any(tensor.is_cuda for tensor in tensors):
            tensors = [_host(tensor).copy_(tensor, non_blocking=True) for tensor in tensors]
            self._arrived = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]  # waiting leaves the core to others
            self._arrived.record()
        self._tensors = tensors

    def arrays(self) -> list[npt.NDArray[np.generic]]:
        """Waits for them."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return [tensor.numpy() for tensor in self._tensors]


def _host(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)

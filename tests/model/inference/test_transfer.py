"""Tests of transfers to a device and back: they do not change the data."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from distilray.model.inference.transfer import PendingOutputs, send
from distilray.model.network.pack import Pack, make_pack

HOST = make_pack(np.array([7, 8, 9, 10, 11]), np.array([2, 3]))
POSITIONS = [np.array([4, 0]), np.zeros(0, dtype=np.int64), np.array([1], dtype=np.int32)]
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, needs_gpu])]


def assert_sent(pack: Pack, positions: Sequence[torch.Tensor], device: str) -> None:
    assert pack.input_ids.tolist() == [7, 8, 9, 10, 11]
    assert pack.position_ids.tolist() == [0, 1, 0, 1, 2]
    assert pack.cu_seqlens.tolist() == [0, 2, 5]
    assert (pack.max_seqlen, pack.groups) == (3, ((0, 1, 2), (2, 1, 3)))
    assert [at.tolist() for at in positions] == [[4, 0], [], [1]]
    for tensor in (pack.input_ids, pack.position_ids, pack.cu_seqlens, *positions):
        assert (tensor.device.type, tensor.dtype) == (device, torch.int32)


@pytest.mark.parametrize("device", DEVICES)
def test_a_pack_and_positions_arrive_in_one_buffer(device: str) -> None:
    pack, positions = send(HOST, POSITIONS, torch.device(device))
    assert_sent(pack, positions, device)
    storages = {
        t.untyped_storage().data_ptr() for t in (pack.input_ids, pack.position_ids, pack.cu_seqlens, *positions)
    }
    assert len(storages) == 1


@pytest.mark.parametrize("device", DEVICES)
def test_later_computations_do_not_change_pending_outputs(device: str) -> None:
    """No buffer is reused before its contents are read."""
    all_pending = []
    for number in range(50):
        pack, (at,) = send(HOST, [np.full(1000, number)], torch.device(device))
        all_pending.append(
            PendingOutputs([at * 2, pack.input_ids.float(), torch.ones((), dtype=torch.bool, device=device)])
        )
    for number, pending in enumerate(all_pending):
        doubled, ids, yes = pending.arrays()
        assert doubled.tolist() == [2 * number] * 1000
        assert (ids.tolist(), yes.item()) == ([7, 8, 9, 10, 11], True)

"""Tests of the blocks of rows that the encoder computes on a CPU: their edges do not change the outputs."""

from pathlib import Path

import pytest
import torch

from distilray.model.network import encoder
from tests.model.parity import CASES, GATES, OPTIONS_16_BIT, assert_parity, make_example, random_batch

CASE = CASES["token-classification"]
LENGTHS = [1, 5, 7, 7, 40, 61]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_outputs_in_small_blocks_equal_transformers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(encoder, "BLOCK_BYTES", 3000)
    example = make_example(tmp_path, CASE, random_batch(LENGTHS), **OPTIONS_16_BIT)
    assert_parity(example.outputs(dtype=dtype), example.expected, GATES[dtype])

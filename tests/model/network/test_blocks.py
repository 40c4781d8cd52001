"""On a CPU the encoder computes in blocks of rows: the answers do not show where they end."""

from pathlib import Path

import pytest
import torch

from distilray.model.network import encoder
from tests.model.parity import CALM, CASES, GATES, assert_parity, make_example, random_batch

CASE = CASES["token-classification"]
LENGTHS = [1, 5, 7, 7, 40, 61]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_blocks_of_a_few_rows_are_transformers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(encoder, "BLOCK_BYTES", 3000)
    example = make_example(tmp_path, CASE, random_batch(LENGTHS), **CALM)
    assert_parity(example.outputs(dtype=dtype), example.wanted, GATES[dtype])

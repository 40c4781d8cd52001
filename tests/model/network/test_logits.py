"""Tests that the outputs of every head equal Transformers'.

The gates are in units of the standard deviation of Transformers' fp32 outputs.
"""

import importlib.util
from pathlib import Path

import pytest
import torch

from distilray.model.network.activations import ACTIVATIONS
from distilray.model.network.names import AttentionName
from tests.model.parity import (
    CASES,
    GATES,
    OPTIONS_16_BIT,
    Example,
    assert_parity,
    hf_outputs,
    load,
    make_example,
    model_outputs,
    ragged_batch,
    random_batch,
)

TOKENS = CASES["token-classification"]


@pytest.fixture(scope="module", params=CASES)
def example(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Example:
    """Sequences of 1 to 512 tokens and weights of std 0.3."""
    return make_example(tmp_path_factory.mktemp("fp32"), CASES[request.param], ragged_batch())


@pytest.fixture(scope="module", params=CASES)
def example_16_bit(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Example:
    """The same sequences and weights of std 0.2, for tests in 16 bits."""
    return make_example(tmp_path_factory.mktemp("16-bit"), CASES[request.param], ragged_batch(), **OPTIONS_16_BIT)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_outputs_equal_transformers(example: Example, attention: AttentionName) -> None:
    assert {1, 512} <= set(example.batch.lengths)
    assert_parity(example.outputs(attention), example.expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_16_bit_outputs_equal_transformers_in_fp32(
    example_16_bit: Example, attention: AttentionName, dtype: torch.dtype
) -> None:
    assert_parity(example_16_bit.outputs(attention, dtype), example_16_bit.expected, GATES[dtype])


@pytest.mark.parametrize("lengths", [[1], [512], [1, 1, 1], [7, 7, 9, 9, 9, 30]], ids=str)
def test_any_grouping_of_lengths_equals_transformers(checkpoint: Path, lengths: list[int]) -> None:
    batch = random_batch(lengths, seed=len(lengths))
    actual = model_outputs(load(checkpoint, TOKENS.name), TOKENS, batch)
    assert_parity(actual, hf_outputs(checkpoint, TOKENS, batch))


@pytest.mark.parametrize("case", ["token-classification", "masked-lm"])
@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_every_activation_equals_transformers(tmp_path: Path, activation: str, case: str) -> None:
    """The masked language model also uses the activation in its head."""
    options = {"layers": 1, "dim": 16, "hidden_dim": 24, "heads": 2, "activation": activation}
    example = make_example(tmp_path, CASES[case], random_batch([3, 5, 5, 8, 20]), **options)
    assert_parity(example.outputs(), example.expected)


def test_a_sequence_longer_than_the_positions_is_an_error(checkpoint: Path) -> None:
    with pytest.raises(ValueError, match="at most 512 tokens, got one of 513"):
        model_outputs(load(checkpoint, TOKENS.name), TOKENS, random_batch([3, 513]))


# GPU kernels


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("attention", ["varlen", "flash", "sdpa", "eager"])
def test_gpu_kernels_equal_transformers(example_16_bit: Example, attention: AttentionName, dtype: torch.dtype) -> None:
    if attention == "flash" and importlib.util.find_spec("flash_attn") is None:
        pytest.skip("flash_attn is not installed")
    assert_parity(example_16_bit.outputs(attention, dtype, "cuda"), example_16_bit.expected, GATES[dtype])

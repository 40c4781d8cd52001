"""Tests that the hidden states and attention weights of every layer equal Transformers' with every backend."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from distilray.model.checkpoint.weights import load_encoder
from distilray.model.network.attention import Attention, Kernel, choose_attention
from distilray.model.network.encoder import Encoder
from distilray.model.network.names import AttentionName
from distilray.model.network.pack import Pack
from tests.model.parity import (
    FP32,
    GATES,
    OPTIONS_16_BIT,
    Batch,
    assert_parity,
    hf_model,
    load,
    ragged_batch,
    weights_of,
)
from tests.support import make_checkpoint

LAYERS = 3
BACKENDS: tuple[AttentionName, ...] = ("sdpa", "eager")


@dataclass(frozen=True)
class Layers:
    """A checkpoint, a batch, and the hidden states and attention weights of Transformers.

    hidden: [T, dim] for the embeddings and for each layer. attention: float32 [T, heads, longest] for each layer. It
    holds the weights over the tokens of the same sequence, and zeros beyond its end.
    """

    folder: Path
    batch: Batch
    hidden: list[Tensor]
    attention: list[Tensor]


@torch.inference_mode()
def hf_layers(folder: Path, batch: Batch) -> Layers:
    model = hf_model(folder, attn_implementation="eager")
    outs = [model(ids[None], output_hidden_states=True, output_attentions=True) for ids in batch.split()]
    longest = int(batch.lengths.max())
    hidden = [
        torch.cat([state[0] for state in states]) for states in zip(*(o.hidden_states for o in outs), strict=True)
    ]
    attention = [
        torch.cat([F.pad(weights[0].transpose(0, 1), (0, longest - weights.shape[-1])) for weights in layer])
        for layer in zip(*(out.attentions for out in outs), strict=True)
    ]
    return Layers(folder, batch, hidden, attention)


@pytest.fixture(scope="module")
def reference_layers(tmp_path_factory: pytest.TempPathFactory) -> Layers:
    folder = make_checkpoint(tmp_path_factory.mktemp("fp32"), head="base", layers=LAYERS)
    return hf_layers(folder, ragged_batch(count=8))


@pytest.fixture(scope="module")
def reference_layers_16_bit(tmp_path_factory: pytest.TempPathFactory) -> Layers:
    folder = make_checkpoint(tmp_path_factory.mktemp("16-bit"), head="base", layers=LAYERS, **OPTIONS_16_BIT)
    return hf_layers(folder, ragged_batch(longest=100))


@torch.inference_mode()
def model_hidden(folder: Path, batch: Batch, attention: AttentionName, dtype: torch.dtype, depths: set[int]) -> dict:
    return load(folder, "first-token", attention, dtype).encoder(batch.pack, depths)


@pytest.mark.parametrize("attention", BACKENDS)
def test_hidden_states_equal_transformers(reference_layers: Layers, attention: AttentionName) -> None:
    actual = model_hidden(
        reference_layers.folder, reference_layers.batch, attention, torch.float32, set(range(LAYERS + 1))
    )
    assert sorted(actual) == list(range(LAYERS + 1))
    for depth, reference in enumerate(reference_layers.hidden):
        assert_parity(actual[depth], reference)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("attention", BACKENDS)
def test_16_bit_hidden_states_equal_transformers_in_fp32(
    reference_layers_16_bit: Layers, attention: AttentionName, dtype: torch.dtype
) -> None:
    actual = model_hidden(
        reference_layers_16_bit.folder, reference_layers_16_bit.batch, attention, dtype, set(range(LAYERS + 1))
    )
    for depth, reference in enumerate(reference_layers_16_bit.hidden):
        assert_parity(actual[depth].float(), reference, GATES[dtype])


@pytest.mark.parametrize("depth", range(LAYERS + 1))
def test_a_head_can_read_any_layer(reference_layers: Layers, depth: int) -> None:
    with torch.inference_mode():
        pack = reference_layers.batch.pack
        actual = load(reference_layers.folder, "first-token", depth=depth)(pack, torch.arange(len(pack.input_ids)))
    assert_parity(actual, reference_layers.hidden[depth])


@pytest.mark.parametrize("depths", [{0}, {2}, {1, 3}, {0, 3}, set()], ids=str)
def test_the_encoder_computes_no_layer_above_the_deepest_requested_one(
    reference_layers: Layers, depths: set[int]
) -> None:
    encoder = load(reference_layers.folder, "first-token").encoder
    computed: list[int] = []
    for number, layer in enumerate(encoder.layers, 1):
        layer.register_forward_hook(lambda *_, number=number: computed.append(number))
    with torch.inference_mode():
        hidden = encoder(reference_layers.batch.pack, depths)
    assert hidden.keys() == depths
    assert computed == list(range(1, max(depths, default=0) + 1))


# attention weights


def attention_weights(kernel: Kernel, q: Tensor, k: Tensor, pack: Pack) -> Tensor:
    """Compute the attention weights [T, heads, longest] of a kernel.

    The outputs of a kernel are weighted sums of values. If the values are 1 at one position of every sequence and 0
    elsewhere, the outputs are the weights of that position.
    """
    width = q.shape[-1]
    parts = []
    for first in range(0, pack.max_seqlen, width):
        places = torch.arange(first, first + width)
        ones = (pack.position_ids[:, None] == places).to(q.dtype)[:, None].expand_as(q).contiguous()
        parts.append(kernel(q, k, ones, pack))
    return torch.cat(parts, dim=-1)[..., : pack.max_seqlen]


@torch.inference_mode()
def model_attention(layers: Layers, attention: AttentionName, dtype: torch.dtype) -> list[Tensor]:
    """Compute the attention weights of each layer from the inputs that the kernel gets during a forward pass."""
    weights = weights_of(layers.folder, "first-token")
    kernel = choose_attention(attention, torch.device("cpu"), dtype, weights.config.head_dim).kernel
    recorded: list[Tensor] = []

    def recording_kernel(q: Tensor, k: Tensor, v: Tensor, pack: Pack) -> Tensor:
        recorded.append(attention_weights(kernel, q, k, pack))
        return kernel(q, k, v, pack)

    encoder: Encoder = load_encoder(weights, Attention(attention, "recording_kernel", recording_kernel), dtype)
    encoder(layers.batch.pack, {LAYERS})
    return recorded


@pytest.mark.parametrize("attention", BACKENDS)
def test_attention_weights_equal_transformers(reference_layers: Layers, attention: AttentionName) -> None:
    actual = model_attention(reference_layers, attention, torch.float32)
    for weights, reference in zip(actual, reference_layers.attention, strict=True):
        assert torch.allclose(reference.sum(-1), torch.ones(()))
        assert (weights - reference).abs().max() <= FP32.largest


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_16_bit_attention_weights_equal_transformers_in_fp32(
    reference_layers_16_bit: Layers, dtype: torch.dtype
) -> None:
    for weights, reference in zip(
        model_attention(reference_layers_16_bit, "eager", dtype), reference_layers_16_bit.attention, strict=True
    ):
        assert (weights.float() - reference).abs().max() <= GATES[dtype].largest

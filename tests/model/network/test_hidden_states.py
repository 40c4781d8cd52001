"""Hidden states of every layer and attention weights equal Transformers', whatever the backend."""

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
from tests.model.parity import CALM, FP32, GATES, Batch, assert_parity, hf_model, load, ragged_batch, weights_of
from tests.support import make_checkpoint

LAYERS = 3
BACKENDS: tuple[AttentionName, ...] = ("sdpa", "eager")


@dataclass(frozen=True)
class Layers:
    """A checkpoint, a batch, and what Transformers says of each of its layers.

    hidden: [T, dim] of the embeddings and of each layer; attention: float32 [T, heads, longest] of each layer, the
    weights of a token's own sequence, zero beyond it.
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
def wild(tmp_path_factory: pytest.TempPathFactory) -> Layers:
    folder = make_checkpoint(tmp_path_factory.mktemp("wild"), head="base", layers=LAYERS)
    return hf_layers(folder, ragged_batch(count=8))


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Layers:
    folder = make_checkpoint(tmp_path_factory.mktemp("calm"), head="base", layers=LAYERS, **CALM)
    return hf_layers(folder, ragged_batch(longest=100))


@torch.inference_mode()
def our_hidden(folder: Path, batch: Batch, attention: AttentionName, dtype: torch.dtype, depths: set[int]) -> dict:
    return load(folder, "first-token", attention, dtype).encoder(batch.pack, depths)


@pytest.mark.parametrize("attention", BACKENDS)
def test_hidden_states_equal_transformers(wild: Layers, attention: AttentionName) -> None:
    ours = our_hidden(wild.folder, wild.batch, attention, torch.float32, set(range(LAYERS + 1)))
    assert sorted(ours) == list(range(LAYERS + 1))
    for depth, theirs in enumerate(wild.hidden):
        assert_parity(ours[depth], theirs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("attention", BACKENDS)
def test_16_bit_hidden_states_equal_transformers_in_fp32(
    calm: Layers, attention: AttentionName, dtype: torch.dtype
) -> None:
    ours = our_hidden(calm.folder, calm.batch, attention, dtype, set(range(LAYERS + 1)))
    for depth, theirs in enumerate(calm.hidden):
        assert_parity(ours[depth].float(), theirs, GATES[dtype])


@pytest.mark.parametrize("depth", range(LAYERS + 1))
def test_a_head_may_read_any_layer(wild: Layers, depth: int) -> None:
    with torch.inference_mode():
        pack = wild.batch.pack
        ours = load(wild.folder, "first-token", depth=depth)(pack, torch.arange(len(pack.input_ids)))
    assert_parity(ours, wild.hidden[depth])


@pytest.mark.parametrize("depths", [{0}, {2}, {1, 3}, {0, 3}, set()], ids=str)
def test_no_layer_above_the_deepest_is_computed(wild: Layers, depths: set[int]) -> None:
    encoder = load(wild.folder, "first-token").encoder
    computed: list[int] = []
    for number, layer in enumerate(encoder.layers, 1):
        layer.register_forward_hook(lambda *_, number=number: computed.append(number))
    with torch.inference_mode():
        hidden = encoder(wild.batch.pack, depths)
    assert hidden.keys() == depths
    assert computed == list(range(1, max(depths, default=0) + 1))


# attention weights


def attention_weights(kernel: Kernel, q: Tensor, k: Tensor, pack: Pack) -> Tensor:
    """[T, heads, longest]: what a kernel weighs the tokens of each token's sequence by.

    Its answers are weighted sums: of values that are 1 at one place of every sequence, they are the weights.
    """
    width = q.shape[-1]
    parts = []
    for first in range(0, pack.max_seqlen, width):
        places = torch.arange(first, first + width)
        ones = (pack.position_ids[:, None] == places).to(q.dtype)[:, None].expand_as(q).contiguous()
        parts.append(kernel(q, k, ones, pack))
    return torch.cat(parts, dim=-1)[..., : pack.max_seqlen]


@torch.inference_mode()
def our_attention(layers: Layers, attention: AttentionName, dtype: torch.dtype) -> list[Tensor]:
    """Of each layer, as the kernel computes it in the midst of a forward pass."""
    weights = weights_of(layers.folder, "first-token")
    kernel = choose_attention(attention, torch.device("cpu"), dtype, weights.config.head_dim).kernel
    seen: list[Tensor] = []

    def watched(q: Tensor, k: Tensor, v: Tensor, pack: Pack) -> Tensor:
        seen.append(attention_weights(kernel, q, k, pack))
        return kernel(q, k, v, pack)

    encoder: Encoder = load_encoder(weights, Attention(attention, "watched", watched), dtype)
    encoder(layers.batch.pack, {LAYERS})
    return seen


@pytest.mark.parametrize("attention", BACKENDS)
def test_attention_weights_equal_transformers(wild: Layers, attention: AttentionName) -> None:
    ours = our_attention(wild, attention, torch.float32)
    for mine, theirs in zip(ours, wild.attention, strict=True):
        assert torch.allclose(theirs.sum(-1), torch.ones(()))
        assert (mine - theirs).abs().max() <= FP32.largest


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_16_bit_attention_weights_equal_transformers_in_fp32(calm: Layers, dtype: torch.dtype) -> None:
    for mine, theirs in zip(our_attention(calm, "eager", dtype), calm.attention, strict=True):
        assert (mine.float() - theirs).abs().max() <= GATES[dtype].largest

"""The parity check sees every bug it is there to see (distilbert.md 4): each is put into our model on purpose."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import DistilBertConfig, DistilBertForTokenClassification

from distilray.model.attention import choose_attention
from distilray.model.checkpoint import Checkpoint
from distilray.model.heads import TokenClassifier
from distilray.model.weights import load_model
from tests.support import Sequences, hf_logits, make_checkpoint, packed_logits, random_sequences, vocabulary

FP32_GATE = 2e-5  # in units of the standard deviation of the logits


def tanh_gelu(model: TokenClassifier) -> None:
    for layer in model.encoder.layers:
        layer.activation = partial(F.gelu, approximate="tanh")


def epsilon_of_torch(model: TokenClassifier) -> None:
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-5


def query_and_key_swapped(model: TokenClassifier) -> None:
    for layer in model.encoder.layers:
        for parameter in (layer.qkv_lin.weight, layer.qkv_lin.bias):
            q, k, v = parameter.clone().chunk(3)
            parameter.copy_(torch.cat([k, q, v]))


def attention_bias_dropped(model: TokenClassifier) -> None:
    for layer in model.encoder.layers:
        layer.out_lin.bias.zero_()


def layer_norms_swapped(model: TokenClassifier) -> None:
    for layer in model.encoder.layers:
        layer.sa_layer_norm, layer.output_layer_norm = layer.output_layer_norm, layer.sa_layer_norm


Mutation = Callable[[TokenClassifier], None]
MUTATIONS = (tanh_gelu, epsilon_of_torch, query_and_key_swapped, attention_bias_dropped, layer_norms_swapped)


@pytest.fixture(scope="module")
def batch() -> Sequences:
    return random_sequences([1, 9, 9, 60], len(vocabulary()))


def load(folder: Path) -> TokenClassifier:
    return load_model(
        Checkpoint(str(folder)), choose_attention("sdpa", torch.device("cpu"), torch.float32, 12), torch.float32
    )


def mutated_logits(folder: Path, mutate: Mutation, batch: Sequences) -> Tensor:
    model = load(folder)
    mutate(model)
    return packed_logits(model, batch)


@pytest.mark.parametrize("mutate", MUTATIONS)
def test_adversarial_weights_show_the_bug(checkpoint: Path, batch: Sequences, mutate: Mutation) -> None:
    wanted = hf_logits(checkpoint, batch)
    gate = FP32_GATE * wanted.std()
    assert (packed_logits(load(checkpoint), batch) - wanted).abs().max() <= gate
    assert (mutated_logits(checkpoint, mutate, batch) - wanted).abs().max() > gate


@pytest.fixture(scope="module")
def default_init(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as Transformers initialises it: weights of std 0.02, no biases, LayerNorms that do nothing."""
    folder = make_checkpoint(tmp_path_factory.mktemp("default_init"))
    torch.manual_seed(0)
    DistilBertForTokenClassification(DistilBertConfig.from_pretrained(folder)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("mutate", [attention_bias_dropped, layer_norms_swapped])
def test_default_weights_hide_the_bug(default_init: Path, batch: Sequences, mutate: Mutation) -> None:
    assert torch.equal(mutated_logits(default_init, mutate, batch), packed_logits(load(default_init), batch))

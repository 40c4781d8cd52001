"""Mutation tests of the parity check: it detects each bug that a test inserts into the model."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn

from distilray.model.network.attention import choose_attention
from distilray.model.network.pack import Pack
from tests.model.parity import CASES, FP32, Example, Model, load, make_example, model_outputs, random_batch
from tests.support import make_checkpoint

Mutation = Callable[[Model], None]


def shift_inputs(model: nn.Module, change: Callable[[Pack], Pack]) -> None:
    """Replace the pack that the module gets."""
    model.register_forward_pre_hook(lambda _, args: tuple(change(a) if isinstance(a, Pack) else a for a in args))


# in the encoder


def tanh_gelu(model: Model) -> None:
    for layer in model.encoder.layers:
        layer.activation = partial(F.gelu, approximate="tanh")


def epsilon_of_torch(model: Model) -> None:
    for module in model.encoder.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-5


def query_and_key_swapped(model: Model) -> None:
    for layer in model.encoder.layers:
        for parameter in (layer.qkv_lin.weight, layer.qkv_lin.bias):
            q, k, v = parameter.clone().chunk(3)
            parameter.copy_(torch.cat([k, q, v]))


def attention_bias_dropped(model: Model) -> None:
    for layer in model.encoder.layers:
        layer.out_lin.bias.zero_()


def layer_norms_swapped(model: Model) -> None:
    for layer in model.encoder.layers:
        layer.sa_layer_norm, layer.output_layer_norm = layer.output_layer_norm, layer.sa_layer_norm


def positions_of_the_pack(model: Model) -> None:
    shift_inputs(model.encoder, lambda pack: replace(pack, position_ids=torch.arange(len(pack.position_ids))))


def attention_between_sequences(model: Model) -> None:
    """Treat sequences of equal length as one sequence."""
    kernel = choose_attention("sdpa", torch.device("cpu"), torch.float32, 12).kernel

    def leak(q: Tensor, k: Tensor, v: Tensor, pack: Pack) -> Tensor:
        joined = tuple((first, 1, count * length) for first, count, length in pack.groups)
        return kernel(q, k, v, replace(pack, groups=joined))

    for layer in model.encoder.layers:
        layer.attention = leak


def last_layer_omitted(model: Model) -> None:
    model.depth -= 1


ENCODER = (
    tanh_gelu,
    epsilon_of_torch,
    query_and_key_swapped,
    attention_bias_dropped,
    layer_norms_swapped,
    positions_of_the_pack,
    attention_between_sequences,
    last_layer_omitted,
)


# in the heads


def head_activation_of_the_config(model: Model) -> None:
    head = model.head
    head.forward = lambda hidden, at, _: head.classifier(F.gelu(head.pre_classifier(hidden[at])))


def head_layer_norm_epsilon_of_torch(model: Model) -> None:
    model.head.vocab_layer_norm.eps = 1e-5


def head_activation_omitted(model: Model) -> None:
    model.head.activation = nn.Identity()


def head_activation_is_relu(model: Model) -> None:
    model.head.activation = F.relu


def projector_tied(model: Model) -> None:
    model.head.vocab_projector.weight = model.encoder.word_embeddings.weight


def start_and_end_swapped(model: Model) -> None:
    for parameter in model.head.qa_outputs.parameters():
        parameter.copy_(parameter.flip(0))


def mean_of_neighbours_tokens(model: Model) -> None:
    """Start every sequence except the first one token early, at the last token of the previous sequence."""

    def early(pack: Pack) -> Pack:
        cu = pack.cu_seqlens.clone()
        cu[1:-1] -= 1
        return replace(pack, cu_seqlens=cu)

    shift_inputs(model.head, early)


def mean_without_cls_and_sep(model: Model) -> None:
    def inner(hidden: Tensor, at: Tensor, pack: Pack) -> Tensor:
        edges = pairwise(pack.cu_seqlens.tolist())
        return torch.stack([hidden[a + 1 : b - 1].mean(0) for a, b in edges])

    model.head.forward = inner


def read_one_token_late(model: Model) -> None:
    model.head.register_forward_pre_hook(lambda _, args: (args[0], args[1] + 1, args[2]))


HEADS: dict[str, tuple[Mutation, ...]] = {
    "token-classification": (),
    "single-label": (head_activation_of_the_config, read_one_token_late),
    "multiple-choice": (head_activation_of_the_config, read_one_token_late),
    "question-answering": (start_and_end_swapped,),
    "masked-lm": (head_layer_norm_epsilon_of_torch, head_activation_omitted, head_activation_is_relu),
    "masked-lm-untied": (projector_tied,),
    "first-token": (read_one_token_late,),
    "mean-pooling": (mean_of_neighbours_tokens, mean_without_cls_and_sep),
}


def beyond_the_gate(actual: Tensor, expected: Tensor) -> bool:
    return bool((actual - expected).abs().max() > FP32.largest * expected.std())


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Example]:
    """Examples of every head. Without a mutation, all outputs are within the gate."""
    batch = random_batch([3, 9, 9, 60])
    made = {name: make_example(tmp_path_factory.mktemp(name), CASES[name], batch) for name in HEADS}
    assert not any(beyond_the_gate(example.outputs(), example.expected) for example in made.values())
    return made


def mutated_outputs(example: Example, mutate: Mutation) -> Tensor:
    model = load(example.folder, example.case.name)
    mutate(model)
    return model_outputs(model, example.case, example.batch)


@pytest.mark.parametrize(
    ("name", "mutate"), [(name, mutate) for name, own in HEADS.items() for mutate in (*ENCODER, *own)]
)
@torch.no_grad()
def test_random_weights_reveal_the_bug(examples: dict[str, Example], name: str, mutate: Mutation) -> None:
    assert beyond_the_gate(mutated_outputs(examples[name], mutate), examples[name].expected)


@pytest.fixture(scope="module")
def default_init(tmp_path_factory: pytest.TempPathFactory) -> Example:
    """A checkpoint with Transformers' initialisation: weights of std 0.02, zero biases and identity LayerNorms."""
    folder = make_checkpoint(tmp_path_factory.mktemp("default_init"))
    torch.manual_seed(0)
    config = transformers.DistilBertConfig.from_pretrained(folder)
    transformers.DistilBertForTokenClassification(config).save_pretrained(folder)
    return Example(CASES["token-classification"], folder, random_batch([1, 9, 9, 60]), torch.empty(0))


@pytest.mark.parametrize("mutate", [attention_bias_dropped, layer_norms_swapped])
@torch.no_grad()
def test_default_weights_hide_the_bug(default_init: Example, mutate: Mutation) -> None:
    assert torch.equal(mutated_outputs(default_init, mutate), default_init.outputs())

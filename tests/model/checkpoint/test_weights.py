"""Tests of the strict loading of every head: a mismatch is a CheckpointError that names the tensor and the file."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from distilray.model.checkpoint.checkpoint import Checkpoint
from distilray.model.checkpoint.weights import check_weights, load_encoder, load_head, read_weights
from distilray.model.network.attention import choose_attention
from distilray.model.network.names import HeadName
from tests.model.errors import checkpoint_error
from tests.model.parity import weights_of
from tests.support import SPECIAL, HeadKind, edit_tensors, make_checkpoint

WEIGHTS = "model.safetensors"
# the tensors of each head and their shapes, for 7 labels, 16 dimensions and a vocabulary of 9
STACK = {"pre_classifier.weight": "[16, 16]", "pre_classifier.bias": "[16]"}
TENSORS: dict[HeadKind, dict[str, str]] = {
    "token-classification": {"classifier.weight": "[7, 16]", "classifier.bias": "[7]"},
    "sequence-classification": STACK | {"classifier.weight": "[7, 16]", "classifier.bias": "[7]"},
    "multiple-choice": STACK | {"classifier.weight": "[1, 16]", "classifier.bias": "[1]"},
    "question-answering": {"qa_outputs.weight": "[2, 16]", "qa_outputs.bias": "[2]"},
    "masked-lm": {
        "vocab_transform.weight": "[16, 16]",
        "vocab_transform.bias": "[16]",
        "vocab_layer_norm.weight": "[16]",
        "vocab_layer_norm.bias": "[16]",
        "vocab_projector.weight": "[9, 16]",
        "vocab_projector.bias": "[9]",
    },
}
ENCODER = {
    "embeddings.word_embeddings.weight": "[9, 16]",
    "embeddings.position_embeddings.weight": "[10, 16]",
    "embeddings.LayerNorm.bias": "[16]",
    "transformer.layer.1.attention.q_lin.weight": "[16, 16]",
    "transformer.layer.1.attention.k_lin.bias": "[16]",
    "transformer.layer.0.attention.v_lin.bias": "[16]",
    "transformer.layer.0.attention.out_lin.weight": "[16, 16]",
    "transformer.layer.0.sa_layer_norm.weight": "[16]",
    "transformer.layer.1.ffn.lin1.weight": "[24, 16]",
    "transformer.layer.0.ffn.lin2.weight": "[16, 24]",
    "transformer.layer.0.output_layer_norm.weight": "[16]",
}
SMALL = {
    "dim": 16,
    "heads": 2,
    "hidden_dim": 24,
    "positions": 10,
    "vocab": [*SPECIAL, "a", "b", "c", "d"],
}
PLACES = [
    (head, name, shape)
    for head, own in TENSORS.items()
    for name, shape in (own | (ENCODER if head in ("token-classification", "masked-lm") else {})).items()
]


CopyOf = Callable[[HeadKind], Path]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[HeadKind, Path]:
    """One valid checkpoint of every head."""
    return {
        head: make_checkpoint(tmp_path_factory.mktemp(head), head=head, tie_word_embeddings=False, **SMALL)
        for head in (*TENSORS, "base")
    }


@pytest.fixture
def copy_of(whole: dict[HeadKind, Path], tmp_path: Path) -> CopyOf:
    """A function that copies the checkpoint of a head, for tests that break it."""
    return lambda head: Path(shutil.copytree(whole[head], tmp_path / head))


def stored_name(folder: Path, name: str) -> str:
    """Return the name of a tensor in the file."""
    return next(full for full in load_file(folder / WEIGHTS) if full.removeprefix("distilbert.") == name)


def weights_error(folder: Path, head: HeadName = "token-classification") -> str:
    """Return the message of the CheckpointError of a checkpoint. The message must name the file."""
    message = checkpoint_error(lambda: check_weights(head, read_weights(Checkpoint(str(folder)))))
    assert str(folder / WEIGHTS) in message
    return message


@pytest.fixture
def folder(copy_of: CopyOf) -> Path:
    return copy_of("token-classification")


@pytest.mark.parametrize("head", TENSORS)
def test_a_valid_checkpoint_loads(copy_of: CopyOf, head: HeadName) -> None:
    weights = weights_of(copy_of(head), head)
    eager = choose_attention("eager", torch.device("cpu"), torch.float32, 8)
    for module in (load_encoder(weights, eager, torch.float32), load_head(head, weights, torch.float32)):
        assert not module.training
        assert all(parameter.device.type == "cpu" and not parameter.requires_grad for parameter in module.parameters())


@pytest.mark.parametrize(("head", "name", "shape"), PLACES)
def test_a_missing_tensor_is_an_error(copy_of: CopyOf, head: HeadName, name: str, shape: str) -> None:
    folder = copy_of(head)
    edit_tensors(folder, lambda tensors: tensors.pop(stored_name(folder, name)))
    if head == "masked-lm" and name in ("vocab_projector.weight", "embeddings.word_embeddings.weight"):
        weights_of(folder, head)  # copied from the tied tensor
    else:
        assert f"missing: {name}" in weights_error(folder, head)


@pytest.mark.parametrize(("head", "name", "shape"), PLACES)
def test_a_wrong_shape_is_an_error_with_both_shapes(copy_of: CopyOf, head: HeadName, name: str, shape: str) -> None:
    folder = copy_of(head)
    edit_tensors(folder, lambda tensors: tensors.update({stored_name(folder, name): torch.zeros(3, 16)}))
    assert f"wrong shape: {name} expected {shape}, got [3, 16]" in weights_error(folder, head)


@pytest.mark.parametrize("head", TENSORS)
@pytest.mark.parametrize(
    "name", ["extra.weight", "classifier.other", "distilbert.transformer.layer.2.attention.q_lin.weight"]
)
def test_an_unexpected_tensor_is_an_error(copy_of: CopyOf, name: str, head: HeadName) -> None:
    folder = copy_of(head)
    edit_tensors(folder, lambda tensors: tensors.update({name: torch.zeros(2)}))
    assert f"unexpected: {name.removeprefix('distilbert.')}" in weights_error(folder, head)


@pytest.mark.parametrize(
    ("kind", "head"), [(kind, head) for kind in (*TENSORS, "base") for head in TENSORS if head != kind]
)
def test_a_checkpoint_of_another_head_is_an_error(copy_of: CopyOf, kind: HeadKind, head: HeadName) -> None:
    """The message names the missing tensors, the unexpected ones, and the class in config.json."""
    folder = copy_of(kind)
    message = weights_error(folder, head)
    kind_tensors, head_tensors = TENSORS.get(kind, {}), TENSORS[head]
    assert f"is not a DistilBERT for {head}" in message
    assert "config.json names DistilBert" in message
    assert all(name in message for name in kind_tensors.keys() ^ head_tensors.keys())


def test_a_multiple_choice_head_is_not_a_sequence_classifier(copy_of: CopyOf) -> None:
    """Their tensors have the same names. config.json has two labels, the default of heads without labels."""
    message = weights_error(copy_of("multiple-choice"), "sequence-classification")
    assert "for sequence-classification with 2 labels" in message
    assert "classifier.weight expected [2, 16], got [1, 16]" in message


@pytest.mark.parametrize("dtype", [torch.int64, torch.int8, torch.bool], ids=str)
def test_a_tensor_that_is_not_float_is_an_error(folder: Path, dtype: torch.dtype) -> None:
    edit_tensors(folder, lambda tensors: tensors.update({"classifier.bias": torch.zeros(7, dtype=dtype)}))
    assert "classifier.bias" in weights_error(folder)


@pytest.mark.parametrize("stored_as", [torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_weights_of_any_float_dtype_load_in_the_requested_dtype(
    folder: Path, stored_as: torch.dtype, dtype: torch.dtype
) -> None:
    edit_tensors(folder, lambda tensors: tensors.update({name: t.to(stored_as) for name, t in tensors.items()}))
    weights = weights_of(folder, "token-classification")
    eager = choose_attention("eager", torch.device("cpu"), dtype, 8)
    for module in (load_encoder(weights, eager, dtype), load_head("token-classification", weights, dtype)):
        assert {parameter.dtype for parameter in module.parameters()} == {dtype}


def test_one_message_lists_all_problems(folder: Path) -> None:
    def edit(tensors: dict[str, torch.Tensor]) -> None:
        del tensors["classifier.bias"], tensors["classifier.weight"]
        tensors["pre_classifier.weight"] = torch.zeros(48, 48)

    edit_tensors(folder, edit)
    message = weights_error(folder)
    assert "missing: classifier.bias, classifier.weight" in message
    assert "unexpected: pre_classifier.weight" in message


def test_position_ids_of_old_files_are_ignored(folder: Path) -> None:
    name = "distilbert.embeddings.position_ids"
    edit_tensors(folder, lambda tensors: tensors.update({name: torch.arange(512)[None]}))
    weights_of(folder, "token-classification")


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_truncated_file_is_an_error(folder: Path, keep: int) -> None:
    file = folder / WEIGHTS
    file.write_bytes(file.read_bytes()[:keep])
    assert f"{file}: not a complete safetensors file" in weights_error(folder)


@pytest.mark.parametrize("data", [b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", b"\x80\x02}q\x00."])
def test_a_file_of_another_format_is_an_error(folder: Path, data: bytes) -> None:
    (folder / WEIGHTS).write_bytes(data)
    assert f"{folder / WEIGHTS}: not a complete safetensors file" in weights_error(folder)


def test_a_duplicate_tensor_is_an_error(folder: Path) -> None:
    """One name has a prefix and the other has none, so neither tensor has priority."""
    edit_tensors(folder, lambda tensors: tensors.update({"module.classifier.bias": torch.ones(7)}))
    assert "classifier.bias" in weights_error(folder)


def test_the_digest_distinguishes_checkpoints(folder: Path, whole: dict[HeadKind, Path]) -> None:
    before = Checkpoint(str(folder)).digest()
    assert before == Checkpoint(str(whole["token-classification"])).digest()
    edit_tensors(folder, lambda tensors: tensors["classifier.bias"].add_(1))
    assert before != Checkpoint(str(folder)).digest()

"""Strict loading: whatever does not fit is a CheckpointError that names it and the file."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import DistilBertConfig, DistilBertForMaskedLM

from distilray.model.attention import choose_attention
from distilray.model.checkpoint import Checkpoint
from distilray.model.config import CheckpointError
from distilray.model.weights import check_weights, load_model
from tests.support import IOB2

WEIGHTS = "model.safetensors"
Tensors = dict[str, Tensor]


@pytest.fixture
def folder(checkpoint: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(checkpoint, tmp_path / "model"))


def error_of(folder: Path) -> str:
    """The one message that both loading and checking give."""
    messages = set()
    for load in (check_weights, load_on_cpu):
        with pytest.raises(CheckpointError) as caught:
            load(Checkpoint(str(folder)))
        messages.add(str(caught.value))
    assert len(messages) == 1
    return messages.pop()


def load_on_cpu(checkpoint: Checkpoint) -> torch.nn.Module:
    attention = choose_attention("eager", torch.device("cpu"), torch.float32, 12)
    return load_model(checkpoint, attention, torch.float32)


def edit_config(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def edit_tensors(folder: Path, edit: Callable[[Tensors], Any]) -> None:
    tensors = load_file(folder / WEIGHTS)
    edit(tensors)
    save_file(tensors, folder / WEIGHTS)


def test_a_whole_checkpoint_loads(folder: Path) -> None:
    check_weights(Checkpoint(str(folder)))
    model = load_on_cpu(Checkpoint(str(folder)))
    assert not model.training
    assert all(parameter.device.type == "cpu" and not parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    "name",
    [
        "classifier.bias",
        "distilbert.embeddings.word_embeddings.weight",
        "distilbert.embeddings.position_embeddings.weight",
        "distilbert.transformer.layer.1.attention.k_lin.bias",
        "distilbert.transformer.layer.0.output_layer_norm.weight",
    ],
)
def test_a_missing_tensor_is_named(folder: Path, name: str) -> None:
    edit_tensors(folder, lambda tensors: tensors.pop(name))
    message = error_of(folder)
    assert f"missing: {name.removeprefix('distilbert.')}" in message
    assert str(folder / WEIGHTS) in message


@pytest.mark.parametrize("name", ["extra.weight", "distilbert.transformer.layer.2.attention.q_lin.weight"])
def test_an_extra_tensor_is_named(folder: Path, name: str) -> None:
    edit_tensors(folder, lambda tensors: tensors.update({name: torch.zeros(2)}))
    message = error_of(folder)
    assert f"unexpected: {name.removeprefix('distilbert.')}" in message
    assert str(folder / WEIGHTS) in message


@pytest.mark.parametrize(
    ("name", "expected", "shape"),
    [
        ("classifier.weight", "[7, 48]", (6, 48)),
        ("distilbert.transformer.layer.0.ffn.lin1.weight", "[80, 48]", (48, 80)),
        ("distilbert.transformer.layer.1.attention.v_lin.bias", "[48]", (49,)),
        ("distilbert.embeddings.LayerNorm.bias", "[48]", (1, 48)),
    ],
)
def test_a_wrong_shape_is_named_with_both_shapes(
    folder: Path, name: str, expected: str, shape: tuple[int, ...]
) -> None:
    edit_tensors(folder, lambda tensors: tensors.update({name: torch.zeros(shape)}))
    message = error_of(folder)
    assert f"wrong shape: {name.removeprefix('distilbert.')} expected {expected}, got {list(shape)}" in message
    assert str(folder / WEIGHTS) in message


@pytest.mark.parametrize("dtype", [torch.int64, torch.int8, torch.bool], ids=str)
def test_a_tensor_that_holds_no_floats_is_named(folder: Path, dtype: torch.dtype) -> None:
    edit_tensors(folder, lambda tensors: tensors.update({"classifier.bias": torch.zeros(7, dtype=dtype)}))
    message = error_of(folder)
    assert "classifier.bias" in message
    assert str(folder / WEIGHTS) in message


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_weights_of_any_float_load_in_the_dtype_asked_for(folder: Path, dtype: torch.dtype) -> None:
    edit_tensors(folder, lambda tensors: tensors.update({name: t.to(dtype) for name, t in tensors.items()}))
    assert {p.dtype for p in load_on_cpu(Checkpoint(str(folder))).parameters()} == {torch.float32}


def test_every_complaint_is_in_one_message(folder: Path) -> None:
    def edit(tensors: Tensors) -> None:
        del tensors["classifier.bias"], tensors["classifier.weight"]
        tensors["pre_classifier.weight"] = torch.zeros(48, 48)

    edit_tensors(folder, edit)
    message = error_of(folder)
    assert "missing: classifier.bias, classifier.weight" in message
    assert "unexpected: pre_classifier.weight" in message


def test_position_ids_of_old_files_are_ignored(folder: Path) -> None:
    name = "distilbert.embeddings.position_ids"
    edit_tensors(folder, lambda tensors: tensors.update({name: torch.arange(512)[None]}))
    check_weights(Checkpoint(str(folder)))


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_truncated_file_is_named(folder: Path, keep: int) -> None:
    file = folder / WEIGHTS
    file.write_bytes(file.read_bytes()[:keep])
    assert f"{file}: not a whole safetensors file" in error_of(folder)


@pytest.mark.parametrize("data", [b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", b"\x80\x02}q\x00."])
def test_other_bytes_are_not_taken_for_weights(folder: Path, data: bytes) -> None:
    (folder / WEIGHTS).write_bytes(data)
    assert f"{folder / WEIGHTS}: not a whole safetensors file" in error_of(folder)


@pytest.mark.parametrize("name", ["config.json", WEIGHTS])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert f"no {name} in {folder}" in error_of(folder)


def test_an_unreadable_store_is_a_checkpoint_error() -> None:
    with pytest.raises(CheckpointError, match="cannot read nosuch://bucket/model/config.json"):
        check_weights(Checkpoint("nosuch://bucket/model"))


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff\xfe{}"])
def test_a_config_that_is_no_json_object_is_named(folder: Path, data: bytes) -> None:
    (folder / "config.json").write_bytes(data)
    assert str(folder / "config.json") in error_of(folder)


LABELS = {str(i): label for i, label in enumerate(IOB2)}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"num_labels": 3, "id2label": LABELS}, "num_labels is 3 but id2label has 7 labels"),
        ({"id2label": LABELS | {"9": "X"}}, "id2label must number its labels 0 to 7"),
        ({"id2label": {"O": 0, "B-PER": 1}}, "id2label must map '0', '1', ... to names"),
        ({"id2label": list(IOB2)}, "id2label must map '0', '1', ... to names"),
        ({"pruned_heads": {"0": [1]}}, "pruned_heads are not supported"),
        ({"activation": "gelu_fancy"}, "unknown activation 'gelu_fancy'"),
        ({"model_type": "bert"}, "expected model_type 'distilbert', got 'bert'"),
        ({"n_heads": 5}, "dim 48 is not divisible by n_heads 5"),
        ({"n_layers": 0}, "n_layers must be a positive integer, got 0"),
        ({"dim": "48"}, "dim must be a positive integer, got '48'"),
        ({"vocab_size": True}, "vocab_size must be a positive integer, got True"),
        ({"max_position_embeddings": 512.0}, "max_position_embeddings must be a positive integer, got 512.0"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_config_that_cannot_be_met_is_named(folder: Path, changes: dict[str, Any], complaint: str) -> None:
    edit_config(folder, **changes)
    message = error_of(folder)
    assert complaint in message
    assert str(folder / "config.json") in message


@pytest.mark.parametrize("num_labels", ["seven", [7], 0, -1, 2.5])
def test_a_number_of_labels_that_cannot_be_is_named(folder: Path, num_labels: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    del config["id2label"], config["label2id"]
    (folder / "config.json").write_text(json.dumps(config | {"num_labels": num_labels}))
    message = error_of(folder)
    assert re.search(rf"num_labels .*{re.escape(repr(num_labels))}", message)
    assert str(folder / "config.json") in message


def test_labels_are_numbered_when_the_config_names_none(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    del config["id2label"], config["label2id"]
    (folder / "config.json").write_text(json.dumps(config | {"num_labels": 7}))
    assert Checkpoint(str(folder)).config.labels == tuple(f"LABEL_{i}" for i in range(7))
    check_weights(Checkpoint(str(folder)))


def test_labels_are_sorted_by_id(folder: Path) -> None:
    edit_config(folder, id2label=dict(reversed(LABELS.items())))
    assert Checkpoint(str(folder)).config.labels == IOB2


def test_a_masked_language_model_is_no_token_classifier(folder: Path) -> None:
    DistilBertForMaskedLM(DistilBertConfig.from_pretrained(folder)).save_pretrained(folder)
    message = error_of(folder)
    assert "config.json says DistilBertForMaskedLM" in message
    assert "missing: classifier.bias, classifier.weight" in message
    assert "vocab_transform.weight" in message
    assert str(folder / WEIGHTS) in message


def test_a_tensor_given_twice_is_named(folder: Path) -> None:
    """One bare and one prefixed: which of the two should win?"""
    edit_tensors(folder, lambda tensors: tensors.update({"module.classifier.bias": torch.ones(7)}))
    message = error_of(folder)
    assert "classifier.bias" in message
    assert str(folder / WEIGHTS) in message


def test_the_digest_tells_checkpoints_apart(folder: Path, checkpoint: Path) -> None:
    before = Checkpoint(str(folder)).digest()
    assert before == Checkpoint(str(checkpoint)).digest()
    edit_tensors(folder, lambda tensors: tensors["classifier.bias"].add_(1))
    assert before != Checkpoint(str(folder)).digest()

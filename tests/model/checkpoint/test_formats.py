"""Tests of every format of every head: the tensors and outputs equal those of the framework that wrote the file."""

from pathlib import Path

import pytest
import torch
import transformers

from distilray.model.checkpoint.checkpoint import Checkpoint
from distilray.model.checkpoint.formats.load import load_tensors
from tests.fixtures import HEADS, TORCH_FORMATS, Fixture, fixtures, load, torch_model, write_torch

FP32_GATE = 2e-5  # in units of the standard deviation of the outputs
FILES = {
    "tf_h5": "tf_model.h5",
    "tf_h5_sharded": "tf_model.h5.index.json",
    "tf_safetensors": "model.safetensors",
    "flax": "flax_model.msgpack",
    "flax_untied": "flax_model.msgpack",
    "flax_bfloat16": "flax_model.msgpack",
    "flax_sinusoidal": "flax_model.msgpack",
    "flax_chunked": "flax_model.msgpack",
    "flax_sharded": "flax_model.msgpack.index.json",
    "flax_safetensors": "model.safetensors",
    "safetensors": "model.safetensors",
    "safetensors_sharded": "model.safetensors.index.json",
    "bin": "pytorch_model.bin",
    "bin_legacy": "pytorch_model.bin",
    "bin_sharded": "pytorch_model.bin.index.json",
    "gamma_beta": "pytorch_model.bin",
    "data_parallel": "pytorch_model.bin",
}


def read(fixture: Fixture) -> dict[str, torch.Tensor]:
    file, tensors = load_tensors(Checkpoint(str(fixture.folder)))
    assert file == FILES[fixture.format]
    assert all(tensor.is_contiguous() for tensor in tensors.values())
    return tensors


def assert_same(actual: dict[str, torch.Tensor], reference: dict[str, torch.Tensor]) -> None:
    assert actual.keys() == reference.keys()
    for name, tensor in reference.items():
        assert actual[name].dtype == tensor.dtype, name
        assert torch.equal(actual[name], tensor), name


@pytest.mark.parametrize("fixture", fixtures(), ids=str)
def test_tensors_of_tensorflow_and_flax_files_equal_the_torch_model(fixture: Fixture) -> None:
    assert_same(read(fixture), fixture.tensors())


@pytest.mark.parametrize("fixture", fixtures(), ids=str)
def test_outputs_equal_the_framework_that_saved_the_tensors(fixture: Fixture) -> None:
    model = getattr(transformers, fixture.config().architectures[0])(fixture.config()).eval()
    tensors = {name: tensor.float() for name, tensor in read(fixture).items()}
    if fixture.format == "flax_sinusoidal":
        tensors["embeddings.position_embeddings.weight"] = sinusoids(20, 16)
    load(model, tensors)
    arrays = {name: torch.from_numpy(array) for name, array in fixture.arrays().items()}
    inputs = {name: arrays.pop(name) for name in ("input_ids", "attention_mask")}
    with torch.inference_mode():
        outputs = model(**inputs)
    for name, reference in arrays.items():
        # outputs at padding are not compared
        at = inputs["attention_mask"].bool() if reference.shape[:2] == inputs["input_ids"].shape else ...
        assert (outputs[name][at] - reference[at]).abs().max() <= FP32_GATE * reference[at].std(), name


def sinusoids(positions: int, dim: int) -> torch.Tensor:
    """Return the sinusoidal positions of a new Transformers model."""
    model = transformers.DistilBertModel(
        transformers.DistilBertConfig(
            max_position_embeddings=positions, dim=dim, n_heads=1, n_layers=1, vocab_size=5, sinusoidal_pos_embds=True
        )
    )
    return model.embeddings.position_embeddings.weight.detach()


@pytest.mark.parametrize("kind", TORCH_FORMATS)
@pytest.mark.parametrize("head", HEADS)
def test_tensors_of_torch_files_equal_the_model(head: str, kind: str, tmp_path: Path) -> None:
    fixture = write_torch(head, kind, tmp_path)
    actual, expected = read(fixture), fixture.tensors()
    tied = actual.pop("vocab_projector.weight", None)  # state dicts hold the tied projector, safetensors files do not
    assert tied is None or torch.equal(tied, actual["embeddings.word_embeddings.weight"])
    assert_same(actual, expected)


@pytest.mark.parametrize("kind", ["safetensors", "bin", "bin_legacy", "bin_sharded"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_loading_keeps_the_dtype(kind: str, dtype: torch.dtype, tmp_path: Path) -> None:
    TORCH_FORMATS[kind](torch_model("base").to(dtype), tmp_path)
    _, tensors = load_tensors(Checkpoint(str(tmp_path)))
    assert_same(tensors, torch_model("base").to(dtype).state_dict())


def test_a_view_is_loaded_as_a_contiguous_tensor(tmp_path: Path) -> None:
    whole = torch.arange(12.0).reshape(3, 4)
    torch.save({"a.weight": whole.t(), "b.weight": whole[1:, ::2]}, tmp_path / "pytorch_model.bin")
    _, tensors = load_tensors(Checkpoint(str(tmp_path)))
    assert all(tensor.is_contiguous() for tensor in tensors.values())
    assert_same(tensors, {"a.weight": whole.t(), "b.weight": whole[1:, ::2]})

"""What a checkpoint is said to be, and that everything wrong with it is said at once."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from distilray.model.checkpoint.checkpoint import Checkpoint
from distilray.model.inspect import CheckpointReport, inspect
from tests.fixtures import HEADS, Fixture, fixtures, torch_model, write_torch

FORMATS = {
    "safetensors": "safetensors",
    "safetensors_sharded": "safetensors",
    "bin": "torch pickle",
    "bin_sharded": "torch pickle",
    "tf_h5": "TensorFlow HDF5",
    "tf_h5_sharded": "TensorFlow HDF5",
    "tf_safetensors": "safetensors",
    "flax_safetensors": "safetensors",
}


def report(folder: Path) -> CheckpointReport:
    return inspect(Checkpoint(str(folder)))


def edit_config(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize("fixture", fixtures(), ids=str)
def test_every_fixture_is_known_for_what_it_is(fixture: Fixture) -> None:
    found = report(fixture.folder)
    assert found.problems == ()
    assert found.agree
    assert found.weights.architecture == found.config.architecture == fixture.config().architectures[0]
    assert found.weights.format == FORMATS.get(fixture.format, "Flax msgpack")
    assert found.weights.shards == (2 if "sharded" in fixture.format else 0)
    assert (found.config.n_heads, found.config.dim, found.config.vocab_size) == (4, 16, 48)
    assert found.tokenizer.vocab_size == 48
    assert found.tokenizer.max_length == 20
    assert found.tokenizer.lower_case is True
    assert found.tokenizer.tokenizer_class == "DistilBertTokenizer"
    assert found.tokenizer.special["mask_token"] == "[MASK]"


@pytest.mark.parametrize("kind", ["safetensors", "bin", "bin_sharded"])
@pytest.mark.parametrize("head", HEADS)
def test_parameters_are_counted_as_transformers_counts(head: str, kind: str, tmp_path: Path) -> None:
    found = report(write_torch(head, kind, tmp_path).folder).weights
    assert found is not None
    assert found.parameters == torch_model(head).num_parameters()
    assert found.size == 4 * found.parameters
    assert found.dtypes == ("float32",)


def test_every_dtype_is_named(tmp_path: Path) -> None:
    file = write_torch("base", "safetensors", tmp_path).folder / "model.safetensors"
    tensors = load_file(file)
    save_file(tensors | {"embeddings.LayerNorm.bias": tensors["embeddings.LayerNorm.bias"].half()}, file)
    found = report(tmp_path).weights
    assert found is not None
    assert found.dtypes == ("float16", "float32")
    assert found.size == 4 * found.parameters - 2 * 16


def test_labels_and_problem_type_are_the_configs(tmp_path: Path) -> None:
    write_torch("sequence_classification", "safetensors", tmp_path)
    edit_config(tmp_path, problem_type="multi_label_classification")
    found = report(tmp_path).config
    assert found is not None
    assert found.labels == ("bad", "mixed", "good")
    assert found.problem == "multi_label_classification"


def test_everything_wrong_is_said_at_once(tmp_path: Path) -> None:
    write_torch("token_classification", "safetensors", tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file) | {"extra": torch.ones(2)}
    tensors["distilbert.embeddings.LayerNorm.weight"][3] = torch.nan
    del tensors["classifier.bias"]
    save_file(tensors, file)
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[SEP]\n")
    problems = report(tmp_path).problems
    assert len(problems) == 3
    assert "missing: classifier.bias; unexpected: extra" in problems[0]
    assert "vocabulary does not contain [CLS]" in problems[1]
    assert problems[2] == f"{file}: NaN or infinity in embeddings.LayerNorm.weight"


def test_everything_wrong_with_a_config_is_said_at_once(tmp_path: Path) -> None:
    write_torch("token_classification", "safetensors", tmp_path)
    edit_config(tmp_path, pruned_heads={"0": [1]}, activation="loud", dim=15, num_labels=3, model_type="bert")
    found = report(tmp_path)
    for complaint in ("pruned_heads", "activation 'loud'", "dim 15 is not divisible", "num_labels is 3", "got 'bert'"):
        assert sum(complaint in problem for problem in found.problems) == 1, complaint
    assert len(found.problems) == 5
    assert found.config is None
    assert found.weights is not None  # what does not hang on the config is known nevertheless
    assert found.weights.parameters == torch_model("token_classification").num_parameters()
    assert not found.agree


@pytest.mark.parametrize("name", ["DistilBertForMaskedLM", "DistilBertModel", "BertForTokenClassification"])
def test_a_config_that_says_another_head_does_not_agree(name: str, tmp_path: Path) -> None:
    write_torch("token_classification", "safetensors", tmp_path)
    edit_config(tmp_path, architectures=[name])
    found = report(tmp_path)
    assert not found.agree
    assert found.weights is not None
    assert found.weights.architecture == "DistilBertForTokenClassification"
    assert any(f"config.json names {name}" in problem for problem in found.problems)


def test_a_broken_file_of_weights_leaves_the_rest_known(tmp_path: Path) -> None:
    write_torch("token_classification", "bin", tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"PK")
    found = report(tmp_path)
    assert found.weights is None
    assert found.config is not None
    assert found.tokenizer is not None
    assert [problem.partition(":")[0] for problem in found.problems] == [str(tmp_path / "pytorch_model.bin")]


def test_an_empty_folder_has_two_problems(tmp_path: Path) -> None:
    found = report(tmp_path)
    assert (found.config, found.weights, found.tokenizer) == (None, None, None)
    assert ["no config.json" in problem for problem in found.problems] == [True, False]
    assert "no model.safetensors" in found.problems[1]

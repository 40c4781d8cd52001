"""Tests of `inspect`: its report on a checkpoint lists all properties and all problems."""

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
def test_inspect_reports_the_properties_of_every_fixture(fixture: Fixture) -> None:
    result = report(fixture.folder)
    assert result.problems == ()
    assert result.agree
    assert result.weights.architecture == result.config.architecture == fixture.config().architectures[0]
    assert result.weights.format == FORMATS.get(fixture.format, "Flax msgpack")
    assert result.weights.shards == (2 if "sharded" in fixture.format else 0)
    assert (result.config.n_heads, result.config.dim, result.config.vocab_size) == (4, 16, 48)
    assert result.tokenizer.vocab_size == 48
    assert result.tokenizer.max_length == 20
    assert result.tokenizer.lower_case is True
    assert result.tokenizer.tokenizer_class == "DistilBertTokenizer"
    assert result.tokenizer.special["mask_token"] == "[MASK]"


@pytest.mark.parametrize("kind", ["safetensors", "bin", "bin_sharded"])
@pytest.mark.parametrize("head", HEADS)
def test_inspect_counts_parameters_as_transformers_does(head: str, kind: str, tmp_path: Path) -> None:
    result = report(write_torch(head, kind, tmp_path).folder).weights
    assert result is not None
    assert result.parameters == torch_model(head).num_parameters()
    assert result.size == 4 * result.parameters
    assert result.dtypes == ("float32",)


def test_inspect_reports_every_dtype(tmp_path: Path) -> None:
    file = write_torch("base", "safetensors", tmp_path).folder / "model.safetensors"
    tensors = load_file(file)
    save_file(tensors | {"embeddings.LayerNorm.bias": tensors["embeddings.LayerNorm.bias"].half()}, file)
    result = report(tmp_path).weights
    assert result is not None
    assert result.dtypes == ("float16", "float32")
    assert result.size == 4 * result.parameters - 2 * 16


def test_labels_and_problem_type_come_from_the_config(tmp_path: Path) -> None:
    write_torch("sequence_classification", "safetensors", tmp_path)
    edit_config(tmp_path, problem_type="multi_label_classification")
    result = report(tmp_path).config
    assert result is not None
    assert result.labels == ("bad", "mixed", "good")
    assert result.problem == "multi_label_classification"


def test_one_report_lists_all_problems(tmp_path: Path) -> None:
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


def test_one_report_lists_all_problems_of_a_config(tmp_path: Path) -> None:
    write_torch("token_classification", "safetensors", tmp_path)
    edit_config(tmp_path, pruned_heads={"0": [1]}, activation="loud", dim=15, num_labels=3, model_type="bert")
    result = report(tmp_path)
    for complaint in ("pruned_heads", "activation 'loud'", "dim 15 is not divisible", "num_labels is 3", "got 'bert'"):
        assert sum(complaint in problem for problem in result.problems) == 1, complaint
    assert len(result.problems) == 5
    assert result.config is None
    assert result.weights is not None  # facts that do not depend on the config are reported
    assert result.weights.parameters == torch_model("token_classification").num_parameters()
    assert not result.agree


@pytest.mark.parametrize("name", ["DistilBertForMaskedLM", "DistilBertModel", "BertForTokenClassification"])
def test_a_config_that_names_another_head_does_not_agree(name: str, tmp_path: Path) -> None:
    write_torch("token_classification", "safetensors", tmp_path)
    edit_config(tmp_path, architectures=[name])
    result = report(tmp_path)
    assert not result.agree
    assert result.weights is not None
    assert result.weights.architecture == "DistilBertForTokenClassification"
    assert any(f"config.json names {name}" in problem for problem in result.problems)


def test_a_broken_weights_file_does_not_hide_the_other_facts(tmp_path: Path) -> None:
    write_torch("token_classification", "bin", tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"PK")
    result = report(tmp_path)
    assert result.weights is None
    assert result.config is not None
    assert result.tokenizer is not None
    assert [problem.partition(":")[0] for problem in result.problems] == [str(tmp_path / "pytorch_model.bin")]


def test_an_empty_folder_has_two_problems(tmp_path: Path) -> None:
    result = report(tmp_path)
    assert (result.config, result.weights, result.tokenizer) == (None, None, None)
    assert ["no config.json" in problem for problem in result.problems] == [True, False]
    assert "no model.safetensors" in result.problems[1]

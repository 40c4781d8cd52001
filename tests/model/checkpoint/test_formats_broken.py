"""Tests of broken files: each one is a CheckpointError that names the file and the problem."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from safetensors.torch import load_file, save_file

from distilray.model.checkpoint.checkpoint import Checkpoint
from distilray.model.checkpoint.formats.load import load_tensors
from distilray.model.errors import CheckpointError
from tests.fixtures import HERE
from tests.model.checkpoint.broken import FILES, FORMATS, load_error_of_bytes, saved, write_checkpoint


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 100, 0.5, -40, -1])
@pytest.mark.parametrize("kind", FORMATS)
def test_a_truncated_file_is_an_error(kind: str, keep: float, tmp_path: Path) -> None:
    file = write_checkpoint(kind, tmp_path)
    data = file.read_bytes()
    assert "not a complete" in load_error_of_bytes(data[: int(keep * len(data)) if keep == 0.5 else int(keep)], file)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    "data",
    [
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        b"<!DOCTYPE html><title>404</title>",
        b"{}",
        os.urandom(3000),
    ],
    ids=["lfs", "html", "json", "noise"],
)
def test_a_file_of_another_format_is_an_error(kind: str, data: bytes, tmp_path: Path) -> None:
    file = write_checkpoint(kind, tmp_path)
    assert "not a complete" in load_error_of_bytes(data, file)


@pytest.mark.parametrize("kind", FORMATS)
@given(data=st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_changed_byte_raises_no_other_exception(kind: str, tmp_path: Path, data: st.DataObject) -> None:
    file = tmp_path / FILES[kind]
    original = file.with_suffix(".good")
    if not original.exists():
        write_checkpoint(kind, tmp_path)
        shutil.copy(file, original)
    broken = bytearray(original.read_bytes())
    for at in data.draw(st.lists(st.integers(0, len(broken) - 1), min_size=1, max_size=4)):
        broken[at] = data.draw(st.integers(0, 255))
    file.write_bytes(broken)
    try:
        load_tensors(Checkpoint(str(tmp_path)))
    except CheckpointError as error:
        assert str(file) in str(error)  # noqa: PT017  most changes are in a tensor's data and are no error


@pytest.mark.parametrize(
    "names", [("classifier.bias", "module.classifier.bias"), ("x.LayerNorm.beta", "x.LayerNorm.bias")]
)
def test_two_names_of_one_tensor_are_an_error(names: tuple[str, str], tmp_path: Path) -> None:
    message = load_error_of_bytes(saved({name: torch.zeros(2) for name in names}), tmp_path / "pytorch_model.bin")
    assert f"{names[0].replace('beta', 'bias')} occurs twice, under different names" in message


def test_gamma_is_renamed_only_in_a_layer_norm(tmp_path: Path) -> None:
    """A tensor that no DistilBERT has keeps its name, so that error messages show the name in the file."""
    torch.save({"scaler.gamma": torch.ones(2), "a.LayerNorm.gamma": torch.ones(2)}, tmp_path / "pytorch_model.bin")
    assert load_tensors(Checkpoint(str(tmp_path)))[1].keys() == {"scaler.gamma", "a.LayerNorm.weight"}


@pytest.mark.parametrize("metadata", [{}, {"metadata": {"note": "x"}}])
@pytest.mark.parametrize("kind", ["tf_safetensors", "flax_safetensors"])
def test_tensor_names_identify_the_framework_of_safetensors_without_metadata(
    kind: str, metadata: dict[str, Any], tmp_path: Path
) -> None:
    source = next((HERE / kind).glob("*"))
    save_file(load_file(source / "model.safetensors"), tmp_path / "model.safetensors", **metadata)
    expected = load_tensors(Checkpoint(str(source)))[1]
    tensors = load_tensors(Checkpoint(str(tmp_path)))[1]
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)


def test_a_safetensors_header_may_have_null_metadata(tmp_path: Path) -> None:
    data = write_checkpoint("safetensors", tmp_path).read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + size]) | {"__metadata__": None}).encode()
    (tmp_path / FILES["safetensors"]).write_bytes(len(header).to_bytes(8, "little") + header + data[8 + size :])
    assert load_tensors(Checkpoint(str(tmp_path)))[1]

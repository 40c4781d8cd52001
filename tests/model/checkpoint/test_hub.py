"""Tests of checkpoints at hf://org/name@revision, over HTTP."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from distilray.model.checkpoint.checkpoint import Checkpoint
from distilray.model.checkpoint.formats.load import load_tensors
from distilray.model.errors import CheckpointError
from tests.fixtures import HERE, write_torch
from tests.hub import serve

HEAD = "sequence_classification"
REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_torch(HEAD, "safetensors_sharded", tmp_path_factory.mktemp("hub")).folder


@pytest.fixture(scope="module")
def hub(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A hub with two repositories.

    org/name has safetensors shards on main, a TensorFlow file at a commit, and a Flax file on a branch. org/none has no
    file.
    """
    empty = tmp_path_factory.mktemp("empty")
    branches = {"main": folder, REVISION: HERE / "tf_h5" / HEAD, "flax": HERE / "flax" / HEAD}
    with serve({"org/name": branches, "org/none": {"main": empty}}) as endpoint:
        yield endpoint


def checkpoint(uri: str, endpoint: str) -> Checkpoint:
    return Checkpoint(uri, {"endpoint": endpoint, "token": False})


@pytest.mark.parametrize(
    ("uri", "file"),
    [
        ("hf://org/name", "model.safetensors.index.json"),
        ("hf://org/name@main", "model.safetensors.index.json"),
        ("hf://org/name/", "model.safetensors.index.json"),
        (f"hf://org/name@{REVISION}", "tf_model.h5"),
        ("hf://org/name@flax", "flax_model.msgpack"),
    ],
)
def test_a_hub_model_loads_at_its_revision(uri: str, file: str, folder: Path, hub: str) -> None:
    remote = checkpoint(uri, hub)
    assert remote.config.labels == ("bad", "mixed", "good")
    name, tensors = load_tensors(remote)
    assert name == file
    expected = load_tensors(Checkpoint(str(folder)))[1]
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)


def test_the_digest_equals_that_of_the_same_local_files(folder: Path, hub: str) -> None:
    assert checkpoint("hf://org/name", hub).digest() == Checkpoint(str(folder)).digest()


@pytest.mark.parametrize(
    ("uri", "complaint"),
    [
        ("hf://org/nobody", "no config.json in hf://org/nobody: org/nobody/config.json (repository not found)"),
        ("hf://org/name@v9", "no config.json in hf://org/name@v9: org/name@v9/config.json (revision not found)"),
        ("hf://org/none", "no config.json in hf://org/none; expected a folder with config.json"),
        ("hf://name", "no config.json in hf://name: name/config.json (repository not found)"),
    ],
)
def test_a_missing_repository_revision_or_file_is_an_error(uri: str, complaint: str, hub: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        _ = checkpoint(uri, hub).config
    assert complaint in str(caught.value)


def test_a_repository_without_weights_is_an_error(hub: str) -> None:
    with pytest.raises(CheckpointError, match="no model.safetensors in hf://org/none"):
        load_tensors(checkpoint("hf://org/none", hub))


def test_every_file_is_downloaded_once(folder: Path) -> None:
    requested: list[str] = []
    with serve({"org/once": {"main": folder}}, requested) as endpoint:
        remote = checkpoint("hf://org/once", endpoint)
        load_tensors(remote)
        remote.digest()
    shards = [path for path in requested if path.startswith("GET") and path.endswith(".safetensors")]
    assert sorted(shards) == sorted(set(shards)) != []


CODE = """
from distilray.model.checkpoint.checkpoint import Checkpoint
from distilray.model.checkpoint.formats.load import load_tensors
print(load_tensors(Checkpoint("hf://org/name@flax"))[0])
"""


def test_the_environment_sets_the_endpoint(hub: str) -> None:
    environment = os.environ | {"HF_ENDPOINT": hub}
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "flax_model.msgpack"


def test_the_error_without_the_package_has_the_install_command(hub: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "hf", raising=False)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # as if it were not installed
    with pytest.raises(CheckpointError, match=r"pip install 'distilray\[hub\]'"):
        load_tensors(checkpoint("hf://org/name", hub))

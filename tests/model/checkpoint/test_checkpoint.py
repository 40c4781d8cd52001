"""Tests of the files of a checkpoint: the order of the formats, the index of shards, and the digest."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch
from safetensors.torch import load_file, save_file

from distilray.model.checkpoint.checkpoint import Checkpoint
from distilray.model.checkpoint.formats.load import load_tensors
from tests.fixtures import HERE, write_torch
from tests.model.checkpoint.broken import HEAD, load_error, saved, write_checkpoint

ORDER = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "tf_model.h5",
    "tf_model.h5.index.json",
    "flax_model.msgpack",
    "flax_model.msgpack.index.json",
)
SHARDED = ("safetensors_sharded", "bin_sharded", "tf_h5_sharded", "flax_sharded")


def write_sharded(kind: str, folder: Path) -> Path:
    """Write a checkpoint of a sharded format into a folder. Return the path of its index."""
    write_checkpoint(kind, folder)
    return next(folder.glob("*.index.json"))


@pytest.mark.parametrize("first", range(len(ORDER)))
def test_the_checkpoint_uses_the_first_format_in_the_order(first: int, tmp_path: Path) -> None:
    for name in ORDER[first:]:
        (tmp_path / name).write_bytes(b"")
    assert Checkpoint(str(tmp_path)).weights_file == ORDER[first]


def test_the_error_of_a_folder_without_weights_names_the_expected_files(tmp_path: Path) -> None:
    message = load_error(tmp_path)
    assert f"no model.safetensors in {tmp_path}" in message
    assert "pytorch_model.bin, tf_model.h5, flax_model.msgpack" in message
    assert "hf://org/name@revision" in message


@pytest.mark.parametrize("kind", SHARDED)
def test_a_missing_shard_is_an_error(kind: str, tmp_path: Path) -> None:
    index = write_sharded(kind, tmp_path)
    shard = sorted(set(json.loads(index.read_text())["weight_map"].values()))[1]
    (tmp_path / shard).unlink()
    assert f"no {shard} in {tmp_path}" in load_error(tmp_path)


@pytest.mark.parametrize("kind", SHARDED)
def test_a_tensor_in_another_shard_than_in_the_index_is_an_error(kind: str, tmp_path: Path) -> None:
    index = write_sharded(kind, tmp_path)
    content = json.loads(index.read_text())
    name, first = next(
        (name, shard) for name, shard in content["weight_map"].items() if "classifier" in name and "bias" in name
    )
    other = next(shard for shard in content["weight_map"].values() if shard != first)
    index.write_text(json.dumps(content | {"weight_map": content["weight_map"] | {name: other}}))
    complaints = {
        f"{tmp_path / first} holds tensors that the index does not list for it: classifier.bias",
        f"{tmp_path / other} does not hold tensors that the index lists for it: classifier.bias",
    }
    assert load_error(tmp_path) in complaints
    del content["weight_map"][name]
    index.write_text(json.dumps(content))
    assert (
        load_error(tmp_path) == f"{tmp_path / first} holds tensors that the index does not list for it: classifier.bias"
    )


@pytest.mark.parametrize("kind", SHARDED)
def test_a_tensor_in_no_shard_is_an_error(kind: str, tmp_path: Path) -> None:
    index = write_sharded(kind, tmp_path)
    content = json.loads(index.read_text())
    shard = max(content["weight_map"].values())
    index.write_text(json.dumps({"weight_map": content["weight_map"] | {"qa_outputs/bias": shard}}))
    assert (
        load_error(tmp_path) == f"{tmp_path / shard} does not hold tensors that the index lists for it: qa_outputs.bias"
    )


def test_a_tensor_in_two_shards_is_an_error(tmp_path: Path) -> None:
    save_file({"a.weight": torch.ones(2)}, tmp_path / "1.safetensors")
    save_file({"module.a.weight": torch.ones(2)}, tmp_path / "2.safetensors")
    placed = {"a.weight": "1.safetensors", "module.a.weight": "2.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": placed}))
    assert load_error(tmp_path) == f"{tmp_path}/2.safetensors: expected tensors that no other shard holds, got a.weight"


def test_a_shard_of_another_format_is_an_error(tmp_path: Path) -> None:
    index = write_sharded("safetensors_sharded", tmp_path)
    shard = min(json.loads(index.read_text())["weight_map"].values())
    (tmp_path / shard).write_bytes(saved(load_file(tmp_path / shard)))
    assert f"{tmp_path / shard}: not a complete safetensors file" in load_error(tmp_path)


@pytest.mark.parametrize(
    "shard",
    ["../model/x.bin", "/etc/passwd", "a/b.bin", "a\\b.bin", "..", ".", "", ".x", "s3://b/x", "x\n", 3, None, ["x"]],
)
def test_an_index_must_not_name_files_outside_its_folder(shard: object, tmp_path: Path) -> None:
    index = tmp_path / "model/pytorch_model.bin.index.json"
    index.parent.mkdir()
    (index.parent / "x.bin").write_bytes(saved({"a": torch.ones(2)}))
    index.write_text(json.dumps({"weight_map": {"a": shard}}))
    message = load_error(index.parent)
    assert str(index) in message
    assert f"got {shard!r}" in message


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"weight_map": {}}', '{"weight_map": ["a"]}', '{"weight_map": 3}']
)
def test_a_broken_index_is_an_error(text: str, tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(text)
    assert str(index) in load_error(tmp_path)


def test_buffers_in_an_index_are_ignored(tmp_path: Path) -> None:
    torch.save({"embeddings.position_ids": torch.arange(3), "a.weight": torch.ones(2)}, tmp_path / "1.bin")
    placed = {"embeddings.position_ids": "1.bin", "a.weight": "1.bin"}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": placed}))
    assert load_tensors(Checkpoint(str(tmp_path)))[1].keys() == {"a.weight"}


# the digest


@pytest.mark.parametrize("kind", [*SHARDED, "tf_h5", "flax", "safetensors", "bin"])
def test_the_digest_covers_every_file_of_the_model(kind: str, tmp_path: Path) -> None:
    write_checkpoint(kind, tmp_path)
    (tmp_path / "outputs.npz").unlink()
    (tmp_path / "README.md").write_text("not part of the model")
    (tmp_path / "zz.msgpack").write_text("not part of the model")
    whole = Checkpoint(str(tmp_path)).digest()
    for file in sorted(tmp_path.iterdir()):
        data = file.read_bytes()
        # a space does not change JSON, but it changes the digest
        file.write_bytes(data + b" ")
        changed = Checkpoint(str(tmp_path)).digest()
        assert (changed == whole) == (file.name in {"README.md", "zz.msgpack"}), file.name
        file.write_bytes(data)
    assert Checkpoint(str(tmp_path)).digest() == whole


def test_the_digest_does_not_depend_on_the_location_of_the_files(tmp_path: Path) -> None:
    write_sharded("bin_sharded", tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / "a"), "/digest-test", recursive=True)
    uris = (tmp_path / "a", f"{tmp_path}/b/", f"file://{tmp_path}/a", "memory://digest-test")
    assert len({Checkpoint(str(uri)).digest() for uri in uris}) == 1


def test_the_digest_does_not_cover_an_unused_format(tmp_path: Path) -> None:
    write_torch(HEAD, "safetensors", tmp_path)
    before = Checkpoint(str(tmp_path)).digest()
    shutil.copy(HERE / "flax" / HEAD / "flax_model.msgpack", tmp_path)
    assert Checkpoint(str(tmp_path)).digest() == before


@pytest.mark.parametrize("kind", ["safetensors", "bin_sharded", "tf_h5"])
def test_loading_and_digesting_read_every_weights_file_once(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checkpoint(kind, tmp_path)
    store, reads = fsspec.filesystem("file"), []
    cat_file: Callable[..., bytes] = type(store).cat_file

    def counting(self: Any, path: str, **options: Any) -> bytes:
        reads.append(Path(path).name)
        return cat_file(self, path, **options)

    monkeypatch.setattr(type(store), "cat_file", counting)
    fresh = Checkpoint(str(tmp_path)).digest()
    reads.clear()
    checkpoint = Checkpoint(str(tmp_path))
    load_tensors(checkpoint)
    assert checkpoint.digest() == fresh
    weights = [name for name in reads if name.endswith((".safetensors", ".bin", ".h5"))]
    assert sorted(weights) == sorted(set(weights)) != []

"""Which files make a checkpoint: the order of the formats, shards by their index, and the digest over all of them."""

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
from tests.model.checkpoint.broken import load_error, saved

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
HEAD = "token_classification"
SHARDED = ("safetensors_sharded", "bin_sharded", "tf_h5_sharded", "flax_sharded")


def make(kind: str, folder: Path) -> Path:
    if (HERE / kind).exists():
        shutil.copytree(HERE / kind / HEAD, folder, dirs_exist_ok=True)
    else:
        write_torch(HEAD, kind, folder)
    return next(folder.glob("*.index.json"))


@pytest.mark.parametrize("first", range(len(ORDER)))
def test_the_first_format_in_the_order_is_taken(first: int, tmp_path: Path) -> None:
    for name in ORDER[first:]:
        (tmp_path / name).write_bytes(b"")
    assert Checkpoint(str(tmp_path)).weights_file == ORDER[first]


def test_a_folder_without_weights_says_what_was_looked_for(tmp_path: Path) -> None:
    message = load_error(tmp_path)
    assert f"no model.safetensors in {tmp_path}" in message
    assert "pytorch_model.bin, tf_model.h5, flax_model.msgpack" in message
    assert "hf://org/name@revision" in message


@pytest.mark.parametrize("kind", SHARDED)
def test_a_missing_shard_is_named(kind: str, tmp_path: Path) -> None:
    index = make(kind, tmp_path)
    shard = sorted(set(json.loads(index.read_text())["weight_map"].values()))[1]
    (tmp_path / shard).unlink()
    assert f"no {shard} in {tmp_path}" in load_error(tmp_path)


@pytest.mark.parametrize("kind", SHARDED)
def test_a_tensor_that_is_not_where_the_index_says_is_named(kind: str, tmp_path: Path) -> None:
    index = make(kind, tmp_path)
    content = json.loads(index.read_text())
    name, first = next(
        (name, shard) for name, shard in content["weight_map"].items() if "classifier" in name and "bias" in name
    )
    other = next(shard for shard in content["weight_map"].values() if shard != first)
    index.write_text(json.dumps(content | {"weight_map": content["weight_map"] | {name: other}}))
    complaints = {
        f"{tmp_path / first} holds what the index does not list for it: classifier.bias",
        f"{tmp_path / other} does not hold what the index lists for it: classifier.bias",
    }
    assert load_error(tmp_path) in complaints
    del content["weight_map"][name]
    index.write_text(json.dumps(content))
    assert load_error(tmp_path) == f"{tmp_path / first} holds what the index does not list for it: classifier.bias"


@pytest.mark.parametrize("kind", SHARDED)
def test_a_tensor_that_is_in_no_shard_is_named(kind: str, tmp_path: Path) -> None:
    index = make(kind, tmp_path)
    content = json.loads(index.read_text())
    shard = max(content["weight_map"].values())
    index.write_text(json.dumps({"weight_map": content["weight_map"] | {"qa_outputs/bias": shard}}))
    assert load_error(tmp_path) == f"{tmp_path / shard} does not hold what the index lists for it: qa_outputs.bias"


def test_a_tensor_in_two_shards_is_named(tmp_path: Path) -> None:
    save_file({"a.weight": torch.ones(2)}, tmp_path / "1.safetensors")
    save_file({"module.a.weight": torch.ones(2)}, tmp_path / "2.safetensors")
    placed = {"a.weight": "1.safetensors", "module.a.weight": "2.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": placed}))
    assert load_error(tmp_path) == f"{tmp_path}/2.safetensors: also in another shard: a.weight"


def test_a_shard_that_is_another_format_is_named(tmp_path: Path) -> None:
    index = make("safetensors_sharded", tmp_path)
    shard = min(json.loads(index.read_text())["weight_map"].values())
    (tmp_path / shard).write_bytes(saved(load_file(tmp_path / shard)))
    assert f"{tmp_path / shard}: not a complete safetensors file" in load_error(tmp_path)


@pytest.mark.parametrize(
    "shard",
    ["../model/x.bin", "/etc/passwd", "a/b.bin", "a\\b.bin", "..", ".", "", ".x", "s3://b/x", "x\n", 3, None, ["x"]],
)
def test_an_index_may_not_point_out_of_its_folder(shard: object, tmp_path: Path) -> None:
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
def test_a_broken_index_is_named(text: str, tmp_path: Path) -> None:
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
def test_every_file_that_decides_is_in_the_digest(kind: str, tmp_path: Path) -> None:
    if (HERE / kind).exists():
        shutil.copytree(HERE / kind / HEAD, tmp_path, dirs_exist_ok=True)
    else:
        write_torch(HEAD, kind, tmp_path)
    (tmp_path / "outputs.npz").unlink()
    (tmp_path / "README.md").write_text("decides nothing")
    (tmp_path / "zz.msgpack").write_text("neither")
    whole = Checkpoint(str(tmp_path)).digest()
    for file in sorted(tmp_path.iterdir()):
        data = file.read_bytes()
        # a space is nothing to JSON, and to the digest it is another file
        file.write_bytes(data + b" ")
        changed = Checkpoint(str(tmp_path)).digest()
        assert (changed == whole) == (file.name in {"README.md", "zz.msgpack"}), file.name
        file.write_bytes(data)
    assert Checkpoint(str(tmp_path)).digest() == whole


def test_the_digest_does_not_know_where_the_files_lie(tmp_path: Path) -> None:
    make("bin_sharded", tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / "a"), "/digest-test", recursive=True)
    uris = (tmp_path / "a", f"{tmp_path}/b/", f"file://{tmp_path}/a", "memory://digest-test")
    assert len({Checkpoint(str(uri)).digest() for uri in uris}) == 1


def test_a_format_that_is_not_taken_is_not_in_the_digest(tmp_path: Path) -> None:
    write_torch(HEAD, "safetensors", tmp_path)
    before = Checkpoint(str(tmp_path)).digest()
    shutil.copy(HERE / "flax" / HEAD / "flax_model.msgpack", tmp_path)
    assert Checkpoint(str(tmp_path)).digest() == before


@pytest.mark.parametrize("kind", ["safetensors", "bin_sharded", "tf_h5"])
def test_loading_and_digesting_reads_every_file_of_weights_once(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (HERE / kind).exists():
        shutil.copytree(HERE / kind / HEAD, tmp_path, dirs_exist_ok=True)
    else:
        write_torch(HEAD, kind, tmp_path)
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

"""Tests of TensorFlow's HDF5 files: only complete datasets in the file itself are loaded."""

import io
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from distilray.model.checkpoint.checkpoint import Checkpoint
from distilray.model.checkpoint.formats.load import load_tensors
from tests.model.checkpoint.broken import load_error, load_error_of_bytes, write_checkpoint

WEIGHT = "tf_distil_bert_model/distilbert/embeddings/LayerNorm/gamma:0"


def h5_links_to_itself(file: h5py.File) -> None:
    file["group/self"] = file["/"]
    file["group/above"] = file["group"]


def h5_in_another_file(file: h5py.File) -> None:
    file.create_dataset(WEIGHT, (4,), "float32", external=[("/etc/passwd", 0, 16)])


def h5_virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4,), "float32")
    layout[:] = h5py.VirtualSource("/etc/hostname", "x", (4,))
    file.create_virtual_dataset(WEIGHT, layout)


def h5_external_link(file: h5py.File) -> None:
    file["a"] = h5py.ExternalLink("other.h5", "/")


def h5_soft_link(file: h5py.File) -> None:
    file["a"] = h5py.SoftLink("/nowhere")


@pytest.mark.parametrize(
    ("write", "complaint"),
    [
        (h5_in_another_file, f"{WEIGHT} is stored in another file"),
        (h5_virtual, f"{WEIGHT} is stored in another file"),
        (h5_external_link, "a is a link"),
        (h5_soft_link, "a is a link"),
        (lambda file: file.create_dataset(WEIGHT, (1 << 20, 1 << 20), "float32"), "has 0 of 4398046511104 bytes"),
        (
            lambda file: file.create_dataset(WEIGHT, data=np.zeros((1000, 1000)), compression="gzip"),
            " of 8000000 bytes",
        ),
        (lambda file: file.create_dataset(WEIGHT, data=np.arange(3)), f"floats in {WEIGHT}, got int64"),
        (lambda file: file.create_dataset(WEIGHT, data=np.ones(3, np.longdouble)), "got float128"),
        (lambda file: file.create_dataset(WEIGHT, data=["a"]), f"floats in {WEIGHT}, got object"),
        (lambda file: file.create_dataset(WEIGHT, data=h5py.Empty("float32")), f"floats in {WEIGHT}"),
        (
            lambda file: [
                file.create_dataset(f"{layer}/{WEIGHT}", data=np.full(3, i / 2)) for i, layer in enumerate("ab")
            ],
            ", which are one weight: the values differ",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_dataset_that_is_not_complete_floats_in_the_file_is_an_error(
    write: Callable[[h5py.File], Any], complaint: str, tmp_path: Path
) -> None:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        write(file)
    assert complaint in load_error_of_bytes(buffer.getvalue(), tmp_path / "tf_model.h5")


def test_a_tensor_larger_than_the_file_is_an_error(tmp_path: Path) -> None:
    """All chunks of the tensor have the same address, which HDF5 would read ten times."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        stored = file.create_dataset(WEIGHT, data=np.ones((10, 4000)), chunks=(1, 4000)).id
        file.flush()
        places = [stored.get_chunk_info(i).byte_offset for i in range(10)]
    data = buffer.getvalue()
    end = struct.pack("<Q", len(data)), struct.pack("<Q", min(places) + 32000)
    for place in places:
        data = data.replace(struct.pack("<Q", place), struct.pack("<Q", min(places)))
    data = data[: min(places) + 32000].replace(*end)
    assert (
        f"expected at most the {len(data)} bytes of the file, got 320000 declared bytes up to {WEIGHT}"
        in load_error_of_bytes(data, tmp_path / "tf_model.h5")
    )


def test_groups_that_contain_each_other_are_read_once(tmp_path: Path) -> None:
    file = write_checkpoint("tf_h5", tmp_path)
    expected = load_tensors(Checkpoint(str(tmp_path)))[1]
    with h5py.File(file, "a") as opened:
        opened["classifier/self"] = opened["classifier"]
        opened["distilbert/root"] = opened["/"]
    assert load_tensors(Checkpoint(str(tmp_path)))[1].keys() == expected.keys()


def test_the_number_after_the_name_of_a_model_is_ignored(tmp_path: Path) -> None:
    """Keras numbers the second model of a class: tf_distil_bert_for_token_classification_1."""
    file = write_checkpoint("tf_h5", tmp_path)
    expected = load_tensors(Checkpoint(str(tmp_path)))[1]
    with h5py.File(file, "a") as opened:
        for layer in opened.values():
            for model in list(layer):
                layer.move(model, f"{model}_1")
    tensors = load_tensors(Checkpoint(str(tmp_path)))[1]
    assert tensors.keys() == expected.keys()


def test_the_error_without_h5py_has_the_install_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_checkpoint("tf_h5", tmp_path)
    monkeypatch.setitem(sys.modules, "h5py", None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, "distilray.model.checkpoint.formats.h5", raising=False)
    message = load_error(tmp_path)
    assert "tf_model.h5: TensorFlow weights need h5py: pip install 'distilray[h5]'" in message


@pytest.mark.parametrize("dtype", [">f4", "<f4", ">f2", ">f8"])
def test_floats_of_either_byte_order_are_read(dtype: str, tmp_path: Path) -> None:
    values = np.linspace(-1, 1, 7).astype(dtype)
    with h5py.File(tmp_path / "tf_model.h5", "w") as file:
        file.create_dataset(f"distilbert/{WEIGHT}", data=values)
    tensor = load_tensors(Checkpoint(str(tmp_path)))[1]["embeddings.LayerNorm.weight"]
    assert tensor.dtype.itemsize == values.itemsize
    assert tensor.tolist() == values.tolist()

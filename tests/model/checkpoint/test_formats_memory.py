"""Tests of files that declare more data than they hold: they are rejected in little memory."""

import io
import json
import resource
import struct
import zipfile
from copy import copy
from pathlib import Path
from typing import Any

import msgpack
import pytest
import torch

from tests.model.checkpoint.broken import LEGACY, load_error_of_bytes, saved


def deflated(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as stored, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in stored.namelist():
            packed.writestr(name, stored.read(name))
    return buffer.getvalue()


def overlapping() -> bytes:
    """Return an uncompressed zip whose entries all share the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("archive/data/0", bytes(1000))
        for i in range(1, 10):
            again = copy(file.filelist[0])
            again.filename = f"archive/data/{i}"
            file.filelist.append(again)
    return buffer.getvalue()


def legacy_file_declaring(count: int) -> bytes:
    """Return a legacy file whose storage holds three floats and declares `count`."""
    data = saved({"a": torch.ones(3)}, **LEGACY)
    three, many = b"K\x03Ntq\x07Q", b"\x8a\x08" + struct.pack("<q", count) + b"Ntq\x07Q"
    assert data.count(three) == 1
    return data.replace(three, many)


def with_bytearray(count: int) -> bytes:
    data = saved({}, **LEGACY)
    call = b"}q\x00X\x01\x00\x00\x00acbuiltins\nbytearray\n\x8a\x08" + struct.pack("<q", count) + b"\x85Rs."
    assert data.count(b"\x80\x02}q\x00.") == 1
    return data.replace(b"\x80\x02}q\x00.", b"\x80\x02" + call)


def safetensors_of(header: bytes, body: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + body


def tensor_header(**changes: Any) -> bytes:
    return json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes}).encode()


# Flax


def packed_array(shape: Any, dtype: Any, data: bytes, code: int = 1) -> bytes:
    return msgpack.packb({"a": {"kernel": msgpack.ExtType(code, msgpack.packb((shape, dtype, data)))}})


CHUNKED = "__msgpack_chunked_array__"
EIGHT = msgpack.ExtType(1, msgpack.packb(((2,), "float32", bytes(8))))

BOMBS = {
    "zip that unpacks to more": ("pytorch_model.bin", lambda: deflated(saved({"a": torch.zeros(10**7)}))),
    "compressed zip": ("pytorch_model.bin", lambda: deflated(saved({"a": torch.randn(100)}))),
    "zip whose entries overlap": ("pytorch_model.bin", overlapping),
    "storage of 16 GiB": ("pytorch_model.bin", lambda: legacy_file_declaring(1 << 32)),
    "storage of 4 TiB": ("pytorch_model.bin", lambda: legacy_file_declaring(1 << 40)),
    "storage of 2**62": ("pytorch_model.bin", lambda: legacy_file_declaring(1 << 62)),
    "storage of -1": ("pytorch_model.bin", lambda: legacy_file_declaring(-1)),
    "bytearray of 4 GiB": ("pytorch_model.bin", lambda: with_bytearray(1 << 32)),
    "header of 2**63 bytes": ("model.safetensors", lambda: struct.pack("<Q", 1 << 63) + b"{}"),
    "header of 1 TiB": ("model.safetensors", lambda: struct.pack("<Q", 1 << 40) + b"{}"),
    "shape over the data": ("model.safetensors", lambda: safetensors_of(tensor_header(shape=[1 << 40]), bytes(8))),
    "shape that overflows": (
        "model.safetensors",
        lambda: safetensors_of(tensor_header(shape=[1 << 40, 1 << 40]), bytes(8)),
    ),
    "offsets out of the file": (
        "model.safetensors",
        lambda: safetensors_of(tensor_header(data_offsets=[0, 1 << 50], shape=[1 << 48])),
    ),
    "offsets backwards": ("model.safetensors", lambda: safetensors_of(tensor_header(data_offsets=[8, 0]), bytes(8))),
    "unknown element type": ("model.safetensors", lambda: safetensors_of(tensor_header(dtype="X"), bytes(8))),
    "element type without a torch dtype": (
        "model.safetensors",
        lambda: safetensors_of(tensor_header(dtype="F4", shape=[16]), bytes(8)),
    ),
    "deep header": ("model.safetensors", lambda: safetensors_of(b'{"a":' * 100_000)),
    "array of 2**32 items": ("flax_model.msgpack", lambda: b"\x81\xa1a\xdd\xff\xff\xff\xff"),
    "map of 2**32 items": ("flax_model.msgpack", lambda: b"\x81\xa1a\xdf\xff\xff\xff\xff"),
    "extension of 4 GiB": ("flax_model.msgpack", lambda: b"\x81\xa1a\xc9\xff\xff\xff\xff\x01"),
    "deep maps": ("flax_model.msgpack", lambda: b"\x81\xa1a" * 1_000_000),
    "shape over the bytes": ("flax_model.msgpack", lambda: packed_array((1 << 40,), "float32", bytes(8))),
    "shape under the bytes": ("flax_model.msgpack", lambda: packed_array((1,), "float32", bytes(8))),
    "negative shape": ("flax_model.msgpack", lambda: packed_array((-1, -2), "float32", bytes(8))),
    "shape of a float": ("flax_model.msgpack", lambda: packed_array((2.0,), "float32", bytes(8))),
    "shape that is a number": ("flax_model.msgpack", lambda: packed_array(7, "float32", bytes(8))),
    "integers": ("flax_model.msgpack", lambda: packed_array((2,), "int32", bytes(8))),
    "objects": ("flax_model.msgpack", lambda: packed_array((2,), "object", bytes(8))),
    "no type": ("flax_model.msgpack", lambda: packed_array((2,), None, bytes(8))),
    "text for bytes": ("flax_model.msgpack", lambda: packed_array((2,), "float32", 8)),
    "a number of NumPy": ("flax_model.msgpack", lambda: packed_array((), "float32", bytes(4), code=3)),
    "an empty extension": ("flax_model.msgpack", lambda: msgpack.packb({"a": msgpack.ExtType(1, b"")})),
    "a number for an array": ("flax_model.msgpack", lambda: msgpack.packb({"a": {"kernel": 3}})),
    "a name that is a number": ("flax_model.msgpack", lambda: msgpack.packb({1: EIGHT})),
    "a name twice": ("flax_model.msgpack", lambda: b"\x82" + 2 * (b"\xa1a" + msgpack.packb(EIGHT))),
    "bytes behind the map": ("flax_model.msgpack", lambda: msgpack.packb({"a": EIGHT}) + b"\x80"),
    "chunks without a shape": ("flax_model.msgpack", lambda: msgpack.packb({"a": {CHUNKED: True, "chunks": {}}})),
    "chunks without number 1": (
        "flax_model.msgpack",
        lambda: msgpack.packb({"a": {CHUNKED: True, "shape": {"0": 4}, "chunks": {"0": EIGHT, "2": EIGHT}}}),
    ),
    "chunks that do not fit": (
        "flax_model.msgpack",
        lambda: msgpack.packb({"a": {CHUNKED: True, "shape": {"0": 1 << 40}, "chunks": {"0": EIGHT}}}),
    ),
    "chunks that are numbers": (
        "flax_model.msgpack",
        lambda: msgpack.packb({"a": {CHUNKED: True, "shape": {"0": 1}, "chunks": {"0": 1}}}),
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_file_that_declares_too_much_is_an_error_in_little_memory(name: str, tmp_path: Path) -> None:
    file, make_bytes = BOMBS[name]
    data = make_bytes()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "not a complete" in load_error_of_bytes(data, tmp_path / file)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_the_size_of_a_zip_is_the_size_of_its_unpacked_entries(tmp_path: Path) -> None:
    data = overlapping()
    assert f"got {len(data)} bytes that unpack to 10000" in load_error_of_bytes(data, tmp_path / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("tree", "limit"), [({"a": [EIGHT]}, "max_array_len"), ({str(i): EIGHT for i in range(100_001)}, "max_map_len")]
)
def test_lists_and_too_many_names_are_an_error_before_memory_is_allocated(
    tree: dict[str, Any], limit: str, tmp_path: Path
) -> None:
    assert f"exceeds {limit}" in load_error_of_bytes(msgpack.packb(tree), tmp_path / "flax_model.msgpack")


def test_a_kernel_that_is_not_a_matrix_is_an_error(tmp_path: Path) -> None:
    message = load_error_of_bytes(packed_array((1, 2, 1), "float32", bytes(8)), tmp_path / "flax_model.msgpack")
    assert "expected a matrix in a/kernel, got shape [1, 2, 1]" in message

"""The format of flax_model.msgpack: nested maps of arrays. An array is an extension type of msgpack
(flax.serialization).
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import msgpack
import torch
from torch import Tensor

from distilray.model.checkpoint.formats.names import Layout
from distilray.model.errors import CheckpointError

_ARRAY_CODE = 1  # the code of the extension type
_CHUNKED_KEY = "__msgpack_chunked_array__"  # marks an array that is too large for one extension
_DTYPES = {b"float16": torch.float16, b"bfloat16": torch.bfloat16, b"float32": torch.float32, b"float64": torch.float64}
_LIMITS = {"max_array_len": 0, "max_bin_len": 0, "max_str_len": 1000, "max_map_len": 100_000}


def read_flax(data: bytes, where: str) -> tuple[Layout, dict[str, Tensor]]:
    """Read the tensors of a Flax file.

    Raises CheckpointError, which names the file `where`, unless the file holds complete arrays of floats in nested
    maps.
    """
    try:
        tree = msgpack.unpackb(
            data,
            ext_hook=_array,
            object_pairs_hook=_as_array,
            max_ext_len=len(data),
            strict_map_key=True,
            **_LIMITS,
        )
        if not isinstance(tree, dict):
            raise TypeError(f"expected a map, got {type(tree).__name__}")
        tensors = dict(_leaves(tree))
    except Exception as error:  # msgpack raises ValueError, its own errors and others on broken bytes
        raise CheckpointError(f"{where}: not a complete Flax file ({type(error).__name__}: {error})") from error
    return "flax", tensors


def _as_array(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any] | Tensor:
    """Return the map of these pairs, or the joined array if the pairs are the chunks of an array."""
    items = dict(pairs)
    if len(items) < len(pairs):
        raise ValueError(f"expected distinct names, got {', '.join(key for key, _ in pairs)}")
    if _CHUNKED_KEY not in items:
        return items
    shape, chunks = (_list_from_map(items[part]) for part in ("shape", "chunks"))
    return torch.cat([chunk.flatten() for chunk in chunks]).reshape(shape)


def _list_from_map(items: dict[str, Any]) -> list[Any]:
    """Return the list that Flax writes as a map from "0", "1", ..."""
    return [items[str(i)] for i in range(len(items))]


def _array(code: int, data: bytes) -> Tensor:
    """Decode the tensor in an extension. `data` holds its shape, the name of its dtype, and its bytes in C order."""
    if code != _ARRAY_CODE:
        raise ValueError(f"expected arrays, got the extension type {code}")
    shape, dtype, buffer = msgpack.unpackb(data, raw=True, max_array_len=64)
    if dtype not in _DTYPES:
        raise ValueError(f"expected an array of 16, 32 or 64 bit floats, got {dtype!r}")
    if math.prod(shape) * _DTYPES[dtype].itemsize != len(buffer):
        raise ValueError(f"expected {dtype!r} of shape {shape}, got {len(buffer)} bytes")
    return torch.frombuffer(bytearray(buffer), dtype=_DTYPES[dtype]).reshape(shape)


def _leaves(tree: dict[str, Any]) -> Iterator[tuple[str, Tensor]]:
    for name, value in tree.items():
        if isinstance(value, Tensor):
            yield name, value
        elif isinstance(value, dict):
            yield from ((f"{name}/{inner}", tensor) for inner, tensor in _leaves(value))
        else:
            raise TypeError(f"expected arrays, got {type(value).__name__} in {name}")

"""The safetensors format. A file may have the names of any framework (https://huggingface.co/docs/safetensors)."""

import json

import safetensors.torch
from torch import Tensor

from distilray.model.checkpoint.formats.names import Layout
from distilray.model.errors import CheckpointError


def read_safetensors(data: bytes, where: str) -> tuple[Layout, dict[str, Tensor]]:
    """Read the tensors of a file. Raises CheckpointError, which names the file `where`, if the file is not complete."""
    try:
        tensors = safetensors.torch.load(data)
    except Exception as error:  # the library's own errors, and KeyError for an unknown element type
        raise CheckpointError(f"{where}: not a complete safetensors file ({type(error).__name__}: {error})") from error
    return _layout(data, tensors), tensors


def _layout(data: bytes, tensors: dict[str, Tensor]) -> Layout:
    """Return the framework that the header states ("pt", "tf", "flax", ...), or else the one that the names fit."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    stated = (header.get("__metadata__") or {}).get("format")
    if stated == "tf" or (stated is None and any("/" in name for name in tensors)):
        return "tf"
    if stated == "flax" or (stated is None and any(name.endswith(".kernel") for name in tensors)):
        return "flax"
    return "torch"

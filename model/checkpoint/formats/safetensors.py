"""Safetensors files, whichever framework's names they hold (https://huggingface.co/docs/safetensors)."""

import json

import safetensors.torch
from torch import Tensor

from distilray.model.checkpoint.formats.names import Layout
from distilray.model.errors import CheckpointError


def read_safetensors(data: bytes, where: str) -> tuple[Layout, dict[str, Tensor]]:
    """Raises CheckpointError naming the file `where` if it is not whole."""
    try:
        tensors = safetensors.torch.load(data)
    except Exception as error:  # the library's own, and KeyError for an element type it does not know
        raise CheckpointError(f"{where}: not a whole safetensors file ({type(error).__name__}: {error})") from error
    return _layout(data, tensors), tensors


def _layout(data: bytes, tensors: dict[str, Tensor]) -> Layout:
    """As the header says ("pt", "tf", "flax", ...); a header that does not say leaves it to the names."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    said = (header.get("__metadata__") or {}).get("format")
    if said == "tf" or (said is None and any("/" in name for name in tensors)):
        return "tf"
    if said == "flax" or (said is None and any(name.endswith(".kernel") for name in tensors)):
        return "flax"
    return "torch"

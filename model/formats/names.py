"""One name and one orientation for each tensor, whichever framework saved it: those of the torch model."""

from collections.abc import Mapping

import torch
from torch import Tensor

from distilray.model.config import CheckpointError

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def to_torch(tensors: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """Tensors by their canonical names: no `module.` or `distilbert.` prefix, no gamma or beta, no position_ids.

    Raises CheckpointError naming the file `where` for two names that become one, and for a tensor without floats.
    """
    named: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if is_buffer(name):
            continue
        if tensor.dtype not in _FLOATS:
            raise CheckpointError(f"{where}: expected floats in {name}, got {tensor.dtype}")
        if canonical(name) in named:
            raise CheckpointError(f"{where}: {canonical(name)} is there twice under different names")
        named[canonical(name)] = tensor
    return named


def is_buffer(name: str) -> bool:
    """True for the position numbers that old versions saved beside the weights."""
    return name.rpartition(".")[2] == "position_ids"


def canonical(name: str) -> str:
    """The name in a torch DistilBertModel, or in a head beside it."""
    name = name.removeprefix("module.").removeprefix("distilbert.")
    module, _, leaf = name.rpartition(".")
    if "LayerNorm" in module or "layer_norm" in module:
        leaf = {"gamma": "weight", "beta": "bias"}.get(leaf, leaf)
    return f"{module}.{leaf}" if module else leaf

"""One name and one orientation for each tensor, whichever framework saved it: those of the torch model."""

import re
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from distilray.model.errors import CheckpointError

Layout = Literal["torch", "tf", "flax"]

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_NORM_LEAVES = {"gamma": "weight", "beta": "bias"}  # torch files of 2019 carry TensorFlow's names
_LEAVES = {
    "torch": {},
    "tf": {"kernel": "weight", "embeddings": "weight", **_NORM_LEAVES},
    "flax": {"kernel": "weight", "embedding": "weight", "scale": "weight"},
}


def to_torch(tensors: Mapping[str, Tensor], layout: Layout, where: str) -> dict[str, Tensor]:
    """Tensors by their canonical names, kernels [in, out] transposed to weights [out, in]; buffers are dropped.

    Raises CheckpointError naming the file `where` for two names that become one, and for a tensor without floats.
    """
    named: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if is_buffer(name):
            continue
        if tensor.dtype not in _FLOATS:
            raise CheckpointError(f"{where}: expected 16, 32 or 64 bit floats in {name}, got {tensor.dtype}")
        ours = canonical(name, layout)
        if ours in named:
            raise CheckpointError(f"{where}: {ours} is there twice under different names")
        if layout != "torch" and _split(name)[1] == "kernel":
            if tensor.ndim != 2:
                raise CheckpointError(f"{where}: expected a matrix in {name}, got shape {list(tensor.shape)}")
            tensor = tensor.t().contiguous()  # noqa: PLW2901
        named[ours] = tensor
    return named


def is_buffer(name: str) -> bool:
    """True for the position numbers that old versions saved beside the weights."""
    return _split(name)[1] == "position_ids"


def is_encoder(name: str) -> bool:
    """True for the canonical name of a tensor that every class has."""
    return name.startswith(("embeddings.", "transformer."))


def canonical(name: str, layout: Layout) -> str:
    """The name in a torch DistilBertModel, or of a head beside it: no `module.` or `distilbert.`, no gamma or beta."""
    module, leaf = _split(name)
    module = f"{module}.".removeprefix("module.").removeprefix("distilbert.")
    leaves = _NORM_LEAVES if layout == "torch" and re.search(r"LayerNorm|layer_norm", module) else _LEAVES[layout]
    return module.removeprefix(".") + leaves.get(leaf, leaf)


def _split(name: str) -> tuple[str, str]:
    """Module and leaf of a name with dots or slashes.

    TensorFlow's "x/tf_distil_bert_model_1/distilbert/transformer/layer_._0/ffn/lin1/kernel:0" has the names of its
    models in front, and a counter behind.
    """
    path = re.sub(r"(^|.*/)tf_distil_bert[^/]*/", "", name).removesuffix(":0").replace("layer_._", "layer.")
    module, _, leaf = path.replace("/", ".").rpartition(".")
    return module, leaf

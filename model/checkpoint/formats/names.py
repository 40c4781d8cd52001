"""The conversion of weights of any framework to the names and the orientation of the torch model."""

import re
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from distilray.model.errors import CheckpointError

Layout = Literal["torch", "tf", "flax"]

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_NORM_LEAVES = {"gamma": "weight", "beta": "bias"}  # torch files of 2019 use TensorFlow's names
_LEAVES = {
    "torch": {},
    "tf": {"kernel": "weight", "embeddings": "weight", **_NORM_LEAVES},
    "flax": {"kernel": "weight", "embedding": "weight", "scale": "weight"},
}


def to_torch(tensors: Mapping[str, Tensor], layout: Layout, where: str) -> dict[str, Tensor]:
    """Return the tensors by canonical names.

    Kernels [in, out] are transposed to weights [out, in]; buffers are dropped. Raises CheckpointError, which names the
    file `where`, if two names have the same canonical name, or if a tensor does not hold floats.
    """
    named: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if is_buffer(name):
            continue
        if tensor.dtype not in _FLOATS:
            raise CheckpointError(f"{where}: expected 16, 32 or 64 bit floats in {name}, got {tensor.dtype}")
        canonical_name = canonical(name, layout)
        if canonical_name in named:
            raise CheckpointError(f"{where}: {canonical_name} occurs twice, under different names")
        if layout != "torch" and _split(name)[1] == "kernel":
            if tensor.ndim != 2:
                raise CheckpointError(f"{where}: expected a matrix in {name}, got shape {list(tensor.shape)}")
            tensor = tensor.t().contiguous()  # noqa: PLW2901
        named[canonical_name] = tensor
    return named


def is_buffer(name: str) -> bool:
    """Return whether a name belongs to the position numbers, which old versions of Transformers saved, too."""
    return _split(name)[1] == "position_ids"


def is_encoder(name: str) -> bool:
    """Return whether a canonical name belongs to the encoder, which every class has."""
    return name.startswith(("embeddings.", "transformer."))


def canonical(name: str, layout: Layout) -> str:
    """Return the canonical name of a tensor: its name in a torch DistilBertModel or in the head of a torch model.

    The canonical name has no prefix `module.` or `distilbert.`. A layer norm has weight and bias, not gamma and beta.
    """
    module, leaf = _split(name)
    module = f"{module}.".removeprefix("module.").removeprefix("distilbert.")
    leaves = _NORM_LEAVES if layout == "torch" and re.search(r"LayerNorm|layer_norm", module) else _LEAVES[layout]
    return module.removeprefix(".") + leaves.get(leaf, leaf)


def _split(name: str) -> tuple[str, str]:
    """Split a name with dots or slashes into module and leaf.

    TensorFlow's "x/tf_distil_bert_model_1/distilbert/transformer/layer_._0/ffn/lin1/kernel:0" starts with the names of
    its models and ends with a counter.
    """
    path = re.sub(r"(^|.*/)tf_distil_bert[^/]*/", "", name).removesuffix(":0").replace("layer_._", "layer.")
    module, _, leaf = path.replace("/", ".").rpartition(".")
    return module, leaf

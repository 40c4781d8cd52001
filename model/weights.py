"""Checkpoint tensors into the packed model, strictly: a missing, extra or misshapen tensor is an error."""

from collections.abc import Mapping

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from distilray.model.attention import Attention, choose_attention
from distilray.model.checkpoint import WEIGHTS, Checkpoint
from distilray.model.config import CheckpointError, Config
from distilray.model.heads import TokenClassifier

# module here -> modules in the checkpoint; several are stacked along the output dimension
_ENCODER = {
    "encoder.word_embeddings": ("embeddings.word_embeddings",),
    "encoder.position_embeddings": ("embeddings.position_embeddings",),
    "encoder.LayerNorm": ("embeddings.LayerNorm",),
}
_LAYER = {
    "qkv_lin": ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
    "out_lin": ("attention.out_lin",),
    "sa_layer_norm": ("sa_layer_norm",),
    "lin1": ("ffn.lin1",),
    "lin2": ("ffn.lin2",),
    "output_layer_norm": ("output_layer_norm",),
}
_HEAD = {"classifier": ("classifier",)}


def load_model(checkpoint: Checkpoint, attention: Attention, dtype: torch.dtype) -> TokenClassifier:
    """The token classifier of `checkpoint`, on the CPU, in `dtype`, ready for inference.

    Raises CheckpointError naming every tensor that is missing, unexpected or of the wrong shape.
    """
    with torch.device("meta"):
        model = TokenClassifier(checkpoint.config, attention)
    tensors = read_tensors(checkpoint)
    parts = _parts_of(model, checkpoint.config)
    _check(parts, model, tensors, checkpoint)
    state = {name: torch.cat([tensors[part].to(dtype) for part in names]) for name, names in parts.items()}
    model.load_state_dict(state, assign=True)
    return model.eval().requires_grad_(False)


def check_weights(checkpoint: Checkpoint) -> None:
    """What `load_model` would raise, without keeping a model."""
    with torch.device("meta"):
        model = TokenClassifier(
            checkpoint.config, choose_attention("eager", torch.device("cpu"), torch.float32, checkpoint.config.head_dim)
        )
    _check(_parts_of(model, checkpoint.config), model, read_tensors(checkpoint), checkpoint)


def read_tensors(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The tensors of model.safetensors by their canonical names."""
    try:
        tensors = safetensors.torch.load(checkpoint.require(WEIGHTS))
    except SafetensorError as error:
        raise CheckpointError(f"{checkpoint.where(WEIGHTS)}: not a whole safetensors file ({error})") from error
    named: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.endswith(".position_ids"):
            continue
        if _canonical(name) in named:
            raise CheckpointError(
                f"{checkpoint.where(WEIGHTS)}: {_canonical(name)} is there twice under different names"
            )
        if not tensor.is_floating_point():
            raise CheckpointError(f"{checkpoint.where(WEIGHTS)}: expected floats in {name}, got {tensor.dtype}")
        named[_canonical(name)] = tensor
    if checkpoint.config.sinusoidal_pos_embds:
        named.setdefault("embeddings.position_embeddings.weight", sinusoidal_positions(checkpoint.config))
    return named


def sinusoidal_positions(config: Config) -> Tensor:
    """float32 [positions, dim]: sin on even, cos on odd columns (Vaswani et al. 2017)."""
    position = np.arange(config.max_position_embeddings)[:, None]
    column = np.arange(config.dim)[None]
    angle = position / 10000 ** (2 * (column // 2) / config.dim)
    return torch.from_numpy(np.where(column % 2, np.cos(angle), np.sin(angle)).astype(np.float32))


def _canonical(name: str) -> str:
    name = name.removeprefix("module.").removeprefix("distilbert.")
    if "LayerNorm" in name or "layer_norm" in name:
        name = name.replace(".gamma", ".weight").replace(".beta", ".bias")
    return name


def _parts_of(model: nn.Module, config: Config) -> dict[str, tuple[str, ...]]:
    """Each parameter of the packed model -> the checkpoint tensors that make it up."""
    table: dict[str, tuple[str, ...]] = {**_ENCODER, **_HEAD}
    for i in range(config.n_layers):
        for ours, parts in _LAYER.items():
            table[f"encoder.layers.{i}.{ours}"] = tuple(f"transformer.layer.{i}.{part}" for part in parts)
    names = (name.rpartition(".") for name in model.state_dict())
    return {f"{module}.{leaf}": tuple(f"{part}.{leaf}" for part in table[module]) for module, _, leaf in names}


def _check(
    parts: Mapping[str, tuple[str, ...]], model: nn.Module, tensors: Mapping[str, Tensor], checkpoint: Checkpoint
) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    expected = {
        part: (shapes[name][0] // len(names), *shapes[name][1:]) for name, names in parts.items() for part in names
    }
    missing = sorted(expected.keys() - tensors.keys())
    unexpected = sorted(tensors.keys() - expected.keys())
    misshapen = [
        f"{part} expected {list(shape)}, got {list(tensors[part].shape)}"
        for part, shape in expected.items()
        if part in tensors and tuple(tensors[part].shape) != shape
    ]
    complaints = [
        f"{what}: {', '.join(names)}"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("wrong shape", misshapen))
        if names
    ]
    if complaints:
        raise CheckpointError(
            f"{checkpoint.where(WEIGHTS)} is not a DistilBERT token classifier with {len(checkpoint.config.labels)} "
            f"labels (config.json says {checkpoint.config.architecture}): {'; '.join(complaints)}"
        )

"""Checkpoint tensors into the packed encoder and its heads, strictly: a missing, extra or misshapen tensor is an error."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from distilray.model.checkpoint.checkpoint import Checkpoint
from distilray.model.checkpoint.formats.load import load_tensors
from distilray.model.errors import CheckpointError
from distilray.model.network.attention import Attention, choose_attention
from distilray.model.network.config import Config
from distilray.model.network.encoder import Encoder
from distilray.model.network.heads import make_head
from distilray.model.network.names import HeadName

_Module = TypeVar("_Module", bound=nn.Module)

# module here -> modules in the checkpoint; several are stacked along the output dimension
_EMBEDDINGS = {
    "word_embeddings": ("embeddings.word_embeddings",),
    "position_embeddings": ("embeddings.position_embeddings",),
    "LayerNorm": ("embeddings.LayerNorm",),
}
_LAYER = {
    "qkv_lin": ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
    "out_lin": ("attention.out_lin",),
    "sa_layer_norm": ("sa_layer_norm",),
    "lin1": ("ffn.lin1",),
    "lin2": ("ffn.lin2",),
    "output_layer_norm": ("output_layer_norm",),
}
_ENCODER = ("embeddings.", "transformer.")
# heads of which only the encoder is used: a checkpoint's own head is no part of the answer then
_HEADLESS: tuple[HeadName, ...] = ("first-token", "mean-pooling")
_HEAD_MODULES = ("classifier", "pre_classifier", "qa_outputs", "vocab_transform", "vocab_layer_norm", "vocab_projector")
_POSITIONS = "embeddings.position_embeddings.weight"
_MOST_SINUSOIDS = 2**24
_WORDS, _PROJECTOR = "embeddings.word_embeddings.weight", "vocab_projector.weight"


@dataclass(frozen=True)
class Weights:
    """A checkpoint's tensors by their canonical names, and the file they came from."""

    config: Config
    where: str
    tensors: Mapping[str, Tensor]

    def encoder_digest(self) -> str:
        """sha256 of the encoder: equal for two checkpoints whose encoders compute the same."""
        sha = hashlib.sha256(repr((self.config.n_heads, self.config.activation)).encode())
        for name in sorted(name for name in self.tensors if name.startswith(_ENCODER)):
            tensor = self.tensors[name].contiguous()
            sha.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
            sha.update(tensor.view(torch.uint8).numpy().data)
        return sha.hexdigest()


def read_weights(checkpoint: Checkpoint) -> Weights:
    """Every tensor of a checkpoint; what old formats leave out is made: sinusoidal positions, tied embeddings."""
    config = checkpoint.config  # first: it says best what is no checkpoint
    file, found = load_tensors(checkpoint)
    tensors = dict(found)
    if config.sinusoidal_pos_embds and _POSITIONS not in tensors:
        tensors[_POSITIONS] = sinusoidal_positions(config)
    if "vocab_projector.bias" in tensors:
        for name, twin in ((_PROJECTOR, _WORDS), (_WORDS, _PROJECTOR)):
            if twin in tensors:
                tensors.setdefault(name, tensors[twin])
    return Weights(config, checkpoint.where(file), tensors)


def load_encoder(weights: Weights, attention: Attention, dtype: torch.dtype) -> Encoder:
    """The encoder, on the CPU, in `dtype`, ready for inference. The weights must have been checked."""
    with torch.device("meta"):
        encoder = Encoder(weights.config, attention)
    return _load(encoder, _encoder_parts(encoder, weights.config), weights, dtype)


def load_head(name: HeadName, weights: Weights, dtype: torch.dtype) -> nn.Module:
    """A head, on the CPU, in `dtype`, ready for inference. The weights must have been checked."""
    with torch.device("meta"):
        head = make_head(name, weights.config)
    return _load(head, _head_parts(head), weights, dtype)


def check_weights(name: HeadName, weights: Weights) -> None:
    """CheckpointError naming every tensor that is missing, unexpected or of the wrong shape for an encoder with a head."""
    config = weights.config
    layers = {part.split(".")[2] for part in weights.tensors if part.startswith("transformer.layer.")}
    if config.n_layers > len(layers):  # before as many modules are made as any number in a file says
        raise CheckpointError(
            f"{weights.where}: config.json says n_layers {config.n_layers}, the weights have {len(layers)}"
        )
    eager = choose_attention("eager", torch.device("cpu"), torch.float32, config.head_dim)
    with torch.device("meta"):
        encoder, head = Encoder(config, eager), make_head(name, config)
    expected = _shapes(encoder, _encoder_parts(encoder, config)) | _shapes(head, _head_parts(head))
    tensors = weights.tensors
    ignored = _HEAD_MODULES if name in _HEADLESS else ()
    missing = sorted(expected.keys() - tensors.keys())
    unexpected = sorted(part for part in tensors.keys() - expected.keys() if part.rpartition(".")[0] not in ignored)
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
        outputs = f" with {len(config.labels)} labels" if name.endswith("-classification") else ""
        raise CheckpointError(
            f"{weights.where} is not a DistilBERT for {name}{outputs} "
            f"(config.json says {config.architecture}): {'; '.join(complaints)}"
        )


def sinusoidal_positions(config: Config) -> Tensor:
    """float32 [positions, dim]: sin on even, cos on odd columns (Vaswani et al. 2017).

    Raises CheckpointError for more than any model has: no weights vouch for these sizes.
    """
    if config.max_position_embeddings * config.dim > _MOST_SINUSOIDS:
        raise CheckpointError(
            f"config.json asks for sinusoidal positions of {config.max_position_embeddings} x {config.dim}, which the "
            f"weights lack: expected at most {_MOST_SINUSOIDS} numbers"
        )
    position = np.arange(config.max_position_embeddings)[:, None]
    column = np.arange(config.dim)[None]
    angle = position / 10000 ** (2 * (column // 2) / config.dim)
    return torch.from_numpy(np.where(column % 2, np.cos(angle), np.sin(angle)).astype(np.float32))


def _encoder_parts(encoder: Encoder, config: Config) -> dict[str, tuple[str, ...]]:
    """Each parameter of the packed encoder -> the checkpoint tensors that make it up."""
    table: dict[str, tuple[str, ...]] = dict(_EMBEDDINGS)
    for i in range(config.n_layers):
        for ours, parts in _LAYER.items():
            table[f"layers.{i}.{ours}"] = tuple(f"transformer.layer.{i}.{part}" for part in parts)
    names = (name.rpartition(".") for name in encoder.state_dict())
    return {f"{module}.{leaf}": tuple(f"{part}.{leaf}" for part in table[module]) for module, _, leaf in names}


def _head_parts(head: nn.Module) -> dict[str, tuple[str, ...]]:
    return {name: (name,) for name in head.state_dict()}


def _shapes(module: nn.Module, parts: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[int, ...]]:
    """The shape each checkpoint tensor must have."""
    shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    return {part: (shapes[name][0] // len(names), *shapes[name][1:]) for name, names in parts.items() for part in names}


def _load(module: _Module, parts: Mapping[str, tuple[str, ...]], weights: Weights, dtype: torch.dtype) -> _Module:
    state = {name: torch.cat([weights.tensors[part].to(dtype) for part in names]) for name, names in parts.items()}
    module.load_state_dict(state, assign=True)
    return module.eval().requires_grad_(False)

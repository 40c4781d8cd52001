"""Checkpoint tensors, and the packed encoder and heads that are loaded from them.

A missing, unexpected or misshapen tensor is an error.
"""

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

# module of Encoder -> modules of the checkpoint; several are stacked along the output dimension
_EMBEDDING_PARTS = {
    "word_embeddings": ("embeddings.word_embeddings",),
    "position_embeddings": ("embeddings.position_embeddings",),
    "LayerNorm": ("embeddings.LayerNorm",),
}
_LAYER_PARTS = {
    "qkv_lin": ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
    "out_lin": ("attention.out_lin",),
    "sa_layer_norm": ("sa_layer_norm",),
    "lin1": ("ffn.lin1",),
    "lin2": ("ffn.lin2",),
    "output_layer_norm": ("output_layer_norm",),
}
_ENCODER_PREFIXES = ("embeddings.", "transformer.")
# heads that use the encoder only; for these, the checkpoint's own head is ignored
_ENCODER_ONLY_HEADS: tuple[HeadName, ...] = ("first-token", "mean-pooling")
_HEAD_MODULES = ("classifier", "pre_classifier", "qa_outputs", "vocab_transform", "vocab_layer_norm", "vocab_projector")
_POSITION_EMBEDDINGS = "embeddings.position_embeddings.weight"
_MAX_SINUSOIDS = 2**24
_WORD_EMBEDDINGS, _PROJECTOR = "embeddings.word_embeddings.weight", "vocab_projector.weight"


@dataclass(frozen=True)
class Weights:
    """The tensors of a checkpoint by their canonical names, and the address of the file that they come from."""

    config: Config
    where: str
    tensors: Mapping[str, Tensor]

    def encoder_digest(self) -> str:
        """Return the sha256 of the encoder. Encoders with the same tensors and settings have equal digests."""
        digest = hashlib.sha256(repr((self.config.n_heads, self.config.activation)).encode())
        for name in sorted(name for name in self.tensors if name.startswith(_ENCODER_PREFIXES)):
            tensor = self.tensors[name].contiguous()
            digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
            digest.update(tensor.view(torch.uint8).numpy().data)
        return digest.hexdigest()


def read_weights(checkpoint: Checkpoint) -> Weights:
    """Read every tensor of a checkpoint.

    Tensors that old formats omit are added: sinusoidal positions, and the projector or the word embeddings if only one
    of the two tied tensors is stored.
    """
    config = checkpoint.config  # read first, because its errors are the clearest if the folder is not a checkpoint
    file, stored = load_tensors(checkpoint)
    tensors = dict(stored)
    if config.sinusoidal_pos_embds and _POSITION_EMBEDDINGS not in tensors:
        tensors[_POSITION_EMBEDDINGS] = sinusoidal_positions(config)
    if "vocab_projector.bias" in tensors:
        for name, tied_name in ((_PROJECTOR, _WORD_EMBEDDINGS), (_WORD_EMBEDDINGS, _PROJECTOR)):
            if tied_name in tensors:
                tensors.setdefault(name, tensors[tied_name])
    return Weights(config, checkpoint.where(file), tensors)


def load_encoder(weights: Weights, attention: Attention, dtype: torch.dtype) -> Encoder:
    """Build the encoder on the CPU in `dtype`, ready for inference. The weights must have been checked."""
    with torch.device("meta"):
        encoder = Encoder(weights.config, attention)
    return _load(encoder, _encoder_parts(encoder, weights.config), weights, dtype)


def load_head(name: HeadName, weights: Weights, dtype: torch.dtype) -> nn.Module:
    """Build a head on the CPU in `dtype`, ready for inference. The weights must have been checked."""
    with torch.device("meta"):
        head = make_head(name, weights.config)
    return _load(head, _head_parts(head), weights, dtype)


def check_weights(name: HeadName, weights: Weights) -> None:
    """Check that the tensors are exactly those of an encoder with a head.

    Raises CheckpointError with the name of every tensor that is missing, unexpected or of the wrong shape.
    """
    config = weights.config
    layers = {
        tensor_name.split(".")[2] for tensor_name in weights.tensors if tensor_name.startswith("transformer.layer.")
    }
    if config.n_layers > len(layers):  # checked before so many modules are built
        raise CheckpointError(
            f"{weights.where}: config.json has n_layers {config.n_layers}, the weights have {len(layers)} layers; "
            "expected equal numbers"
        )
    eager = choose_attention("eager", torch.device("cpu"), torch.float32, config.head_dim)
    with torch.device("meta"):
        encoder, head = Encoder(config, eager), make_head(name, config)
    expected = _shapes(encoder, _encoder_parts(encoder, config)) | _shapes(head, _head_parts(head))
    tensors = weights.tensors
    ignored = _HEAD_MODULES if name in _ENCODER_ONLY_HEADS else ()
    missing = sorted(expected.keys() - tensors.keys())
    unexpected = sorted(
        tensor_name for tensor_name in tensors.keys() - expected.keys() if tensor_name.rpartition(".")[0] not in ignored
    )
    misshapen = [
        f"{tensor_name} expected {list(shape)}, got {list(tensors[tensor_name].shape)}"
        for tensor_name, shape in expected.items()
        if tensor_name in tensors and tuple(tensors[tensor_name].shape) != shape
    ]
    problems = [
        f"{problem}: {', '.join(names)}"
        for problem, names in (("missing", missing), ("unexpected", unexpected), ("wrong shape", misshapen))
        if names
    ]
    if problems:
        outputs = f" with {len(config.labels)} labels" if name.endswith("-classification") else ""
        raise CheckpointError(
            f"{weights.where} is not a DistilBERT for {name}{outputs} "
            f"(config.json names {config.architecture}): {'; '.join(problems)}"
        )


def sinusoidal_positions(config: Config) -> Tensor:
    """Compute position embeddings, float32 [positions, dim]: sin on even, cos on odd columns (Vaswani et al. 2017).

    Raises CheckpointError if there are more numbers than in any known model. No tensor confirms the sizes in
    config.json, and an untrusted file must not decide how much memory is allocated.
    """
    if config.max_position_embeddings * config.dim > _MAX_SINUSOIDS:
        raise CheckpointError(
            f"config.json: expected max_position_embeddings x dim of at most {_MAX_SINUSOIDS} for weights without "
            f"position embeddings, got {config.max_position_embeddings} x {config.dim}: "
            "save the position embeddings with the weights"
        )
    position = np.arange(config.max_position_embeddings)[:, None]
    column = np.arange(config.dim)[None]
    angle = position / 10000 ** (2 * (column // 2) / config.dim)
    return torch.from_numpy(np.where(column % 2, np.cos(angle), np.sin(angle)).astype(np.float32))


def _encoder_parts(encoder: Encoder, config: Config) -> dict[str, tuple[str, ...]]:
    """Return the checkpoint tensors that make up each parameter of the packed encoder."""
    parts_of: dict[str, tuple[str, ...]] = dict(_EMBEDDING_PARTS)
    for i in range(config.n_layers):
        for own, parts in _LAYER_PARTS.items():
            parts_of[f"layers.{i}.{own}"] = tuple(f"transformer.layer.{i}.{part}" for part in parts)
    names = (name.rpartition(".") for name in encoder.state_dict())
    return {f"{module}.{leaf}": tuple(f"{part}.{leaf}" for part in parts_of[module]) for module, _, leaf in names}


def _head_parts(head: nn.Module) -> dict[str, tuple[str, ...]]:
    return {name: (name,) for name in head.state_dict()}


def _shapes(module: nn.Module, parts: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[int, ...]]:
    """Return the shape that each checkpoint tensor must have."""
    shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    return {part: (shapes[name][0] // len(names), *shapes[name][1:]) for name, names in parts.items() for part in names}


def _load(module: _Module, parts: Mapping[str, tuple[str, ...]], weights: Weights, dtype: torch.dtype) -> _Module:
    state = {name: torch.cat([weights.tensors[part].to(dtype) for part in names]) for name, names in parts.items()}
    module.load_state_dict(state, assign=True)
    return module.eval().requires_grad_(False)

"""Packed attention: one function with several kernels.

Every kernel takes q, k, v [T, heads, head_dim] of a `Pack` and returns [T, heads, head_dim]. Each token attends to the
tokens of its own sequence, so there is no mask and no padding.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from distilray.model.errors import BackendError
from distilray.model.network.names import AttentionName
from distilray.model.network.pack import Pack

Kernel = Callable[[Tensor, Tensor, Tensor, Pack], Tensor]


# the flash kernels, the fastest first, and their modules
_FLASH_MODULES: dict[AttentionName, str] = {"flash": "flash_attn", "varlen": "torch.nn.attention.varlen"}


@dataclass(frozen=True)
class Attention:
    """The kernel in use, its name, and the reason for the choice."""

    name: str
    reason: str
    kernel: Kernel


def choose_attention(name: AttentionName, device: torch.device, dtype: torch.dtype, head_dim: int) -> Attention:
    """Return the kernel for `name`; 'auto' is the fastest that the device and the installed packages allow.

    Raises BackendError if `name` is a kernel that cannot run here.
    """
    if name == "auto" and device.type != "cuda":
        return Attention("sdpa", f"the packed kernel for a {device.type}", _sdpa)
    if name == "auto":
        obstacles = {packed: _obstacle(packed, device, dtype, head_dim) for packed in _FLASH_MODULES}
        name = next((packed for packed, obstacle in obstacles.items() if obstacle is None), "sdpa")
        missing = "; ".join(f"{packed} {obstacle}" for packed, obstacle in obstacles.items() if obstacle)
        return Attention(name, missing or "the fastest packed kernel", _KERNELS[name])
    if obstacle := _obstacle(name, device, dtype, head_dim):
        raise BackendError(f"attention '{name}' {obstacle}; use 'sdpa' or 'auto'")
    return Attention(name, "asked for", _KERNELS[name])


def _obstacle(name: AttentionName, device: torch.device, dtype: torch.dtype, head_dim: int) -> str | None:
    """Return why a kernel cannot run here, or None if it can. The text is part of `Predictor.backend`."""
    if name not in _FLASH_MODULES:
        return None
    if device.type != "cuda":
        return f"needs a CUDA device, this is {device.type}"
    if dtype == torch.float32:
        return "needs dtype float16 or bfloat16, not float32"
    if head_dim % 8 or head_dim > 256:
        return f"needs heads of a multiple of 8 up to 256, not {head_dim}"
    if not _installed(_FLASH_MODULES[name]):
        return f"needs {_FLASH_MODULES[name]}, which is not installed"
    if torch.cuda.is_available() and torch.cuda.get_device_capability(device) < (8, 0):
        return f"needs an Ampere GPU or newer, this is {torch.cuda.get_device_name(device)}"
    return None


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a parent package is missing
        return False


def _sdpa(q: Tensor, k: Tensor, v: Tensor, pack: Pack) -> Tensor:
    """Compute attention with torch's SDPA, once for each group of sequences of equal length."""
    return _by_group(F.scaled_dot_product_attention, q, k, v, pack)


def _eager(q: Tensor, k: Tensor, v: Tensor, pack: Pack) -> Tensor:
    """Compute attention by its formula. The tests compare the other kernels with this reference."""
    return _by_group(_softmax_attention, q, k, v, pack)


def _softmax_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
    out: Tensor = scores.softmax(-1) @ v
    return out


def _by_group(
    attend: Callable[[Tensor, Tensor, Tensor], Tensor], q: Tensor, k: Tensor, v: Tensor, pack: Pack
) -> Tensor:
    heads, head_dim = q.shape[1:]
    groups = []
    for first, count, length in pack.groups:
        rows, shape = slice(first, first + count * length), (count, length, heads, head_dim)
        group = attend(*(x[rows].view(shape).transpose(1, 2) for x in (q, k, v)))  # [count, heads, length, head_dim]
        groups.append(group.transpose(1, 2).flatten(0, 1))
    return groups[0] if len(groups) == 1 else torch.cat(groups)


def _varlen(q: Tensor, k: Tensor, v: Tensor, pack: Pack) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn  # noqa: PLC0415  not in every version of torch

    cu, longest = pack.cu_seqlens, pack.max_seqlen
    out = varlen_attn(q, k, v, cu, cu, longest, longest)
    return out if isinstance(out, Tensor) else out[0]


def _flash(q: Tensor, k: Tensor, v: Tensor, pack: Pack) -> Tensor:
    from flash_attn import flash_attn_varlen_func  # noqa: PLC0415  an optional package

    cu, longest = pack.cu_seqlens, pack.max_seqlen
    out: Tensor = flash_attn_varlen_func(q, k, v, cu, cu, longest, longest)
    return out


_KERNELS: dict[str, Kernel] = {"sdpa": _sdpa, "eager": _eager, "varlen": _varlen, "flash": _flash}

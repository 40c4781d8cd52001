"""Packed attention: one function, several kernels behind it.

Every kernel takes q, k, v [T, heads, head_dim] of a `Pack` and returns [T, heads, head_dim]: each token
attends to the tokens of its own sequence, so no mask and no padding exist.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from distilray.model.packed import Pack

AttentionName = Literal["auto", "sdpa", "varlen", "flash", "eager"]
Kernel = Callable[[Tensor, Tensor, Tensor, Pack], Tensor]


class BackendError(ValueError):
    """A device, dtype or attention kernel that was asked for and cannot be had here."""


@dataclass(frozen=True)
class Attention:
    """The kernel in use, its name, and why it was chosen."""

    name: str
    reason: str
    kernel: Kernel


def choose_attention(name: AttentionName, device: torch.device, dtype: torch.dtype) -> Attention:
    """The kernel for `name`; 'auto' takes the fastest the device and the installed packages allow.

    Raises BackendError if an explicit `name` cannot be met.
    """
    if name == "auto":
        name, reason = _best(device, dtype)
    else:
        reason = "asked for"
        _check(name, device, dtype)
    return Attention(name, reason, _KERNELS[name])


def _best(device: torch.device, dtype: torch.dtype) -> tuple[AttentionName, str]:
    if device.type != "cuda":
        return "sdpa", f"the packed kernel for {device.type}"
    if dtype == torch.float32:
        return "sdpa", "flash kernels need float16 or bfloat16"
    if _installed("flash_attn"):
        return "flash", "flash_attn is installed"
    if _installed("torch.nn.attention.varlen"):
        return "varlen", "torch has its own flash kernel for packed sequences"
    return "sdpa", "neither flash_attn nor torch.nn.attention.varlen is installed"


def _check(name: AttentionName, device: torch.device, dtype: torch.dtype) -> None:
    if name not in ("varlen", "flash"):
        return
    module = "flash_attn" if name == "flash" else "torch.nn.attention.varlen"
    if device.type != "cuda":
        raise BackendError(f"attention '{name}' needs a CUDA device, this is {device.type}; use 'sdpa' or 'auto'")
    if dtype == torch.float32:
        raise BackendError(f"attention '{name}' needs dtype float16 or bfloat16, not float32; use 'sdpa' or 'auto'")
    if not _installed(module):
        raise BackendError(f"attention '{name}' needs {module}, which is not installed; use 'sdpa' or 'auto'")


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a parent package is missing
        return False


def _sdpa(q: Tensor, k: Tensor, v: Tensor, pack: Pack) -> Tensor:
    """torch's SDPA, once for each run of equally long sequences."""
    return _by_group(F.scaled_dot_product_attention, q, k, v, pack)


def _eager(q: Tensor, k: Tensor, v: Tensor, pack: Pack) -> Tensor:
    """The formula, written out: the reference the other kernels are tested against."""
    return _by_group(_softmax_attention, q, k, v, pack)


def _softmax_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
    out: Tensor = scores.softmax(-1) @ v
    return out


def _by_group(
    attend: Callable[[Tensor, Tensor, Tensor], Tensor], q: Tensor, k: Tensor, v: Tensor, pack: Pack
) -> Tensor:
    out = torch.empty_like(q)
    heads, head_dim = q.shape[1:]
    for first, count, length in pack.groups:
        rows = slice(first, first + count * length)
        shape = (count, length, heads, head_dim)
        group = attend(*(x[rows].view(shape).transpose(1, 2) for x in (q, k, v)))  # [count, heads, length, head_dim]
        out[rows].view(shape).copy_(group.transpose(1, 2))
    return out


def _varlen(q: Tensor, k: Tensor, v: Tensor, pack: Pack) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn  # noqa: PLC0415  not on every torch

    cu, longest = pack.cu_seqlens, pack.max_seqlen
    out = varlen_attn(q, k, v, cu, cu, longest, longest)
    return out if isinstance(out, Tensor) else out[0]


def _flash(q: Tensor, k: Tensor, v: Tensor, pack: Pack) -> Tensor:
    from flash_attn import flash_attn_varlen_func  # noqa: PLC0415  an extra

    cu, longest = pack.cu_seqlens, pack.max_seqlen
    out: Tensor = flash_attn_varlen_func(q, k, v, cu, cu, longest, longest)
    return out


_KERNELS: dict[str, Kernel] = {"sdpa": _sdpa, "eager": _eager, "varlen": _varlen, "flash": _flash}

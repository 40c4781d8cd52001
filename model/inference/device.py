"""Where and in which precision a model runs."""

import torch

from distilray.model.errors import BackendError
from distilray.model.network.names import DtypeName


def choose_device() -> torch.device:
    """The first CUDA device this process sees, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def choose_dtype(name: DtypeName, device: torch.device) -> torch.dtype:
    """'auto': float16 on CUDA, bfloat16 on a CPU with bfloat16 units, else float32.

    Raises BackendError if an explicit dtype cannot be met.
    """
    if name == "auto":
        if device.type == "cuda":
            return torch.float16
        return torch.bfloat16 if _cpu_has_bfloat16() else torch.float32
    if name == "bfloat16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise BackendError(f"dtype bfloat16: {torch.cuda.get_device_name()} has no bfloat16 units; use float16 or auto")
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def _cpu_has_bfloat16() -> bool:
    has = torch.cpu.get_capabilities()
    return bool(has.get("amx_bf16") or has.get("avx512_bf16"))

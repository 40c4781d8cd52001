"""The device and the precision of a model."""

import torch

from distilray.model.errors import BackendError
from distilray.model.network.names import DtypeName


def choose_device() -> torch.device:
    """Return the first CUDA device that this process can use, or else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def choose_dtype(name: DtypeName, device: torch.device) -> torch.dtype:
    """Return the torch dtype. 'auto' is float16 on CUDA, bfloat16 on a CPU with bfloat16 units, and else float32.

    Raises BackendError if `name` is a dtype that the device does not support.
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
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))

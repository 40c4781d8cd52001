"""Tests of the choice of device, dtype and attention kernel."""

import importlib.util

import pytest
import torch

from distilray.model.errors import BackendError
from distilray.model.inference.device import choose_device, choose_dtype
from distilray.model.network.attention import choose_attention
from distilray.model.network.names import AttentionName

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
HAS_FLASH = importlib.util.find_spec("flash_attn") is not None
DTYPES = (torch.float32, torch.float16, torch.bfloat16)

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["varlen", "flash"])
def test_a_gpu_kernel_on_the_cpu_is_an_error(name: AttentionName, dtype: torch.dtype) -> None:
    with pytest.raises(
        BackendError, match=rf"attention '{name}' needs a CUDA device, this is cpu; use 'sdpa' or 'auto'"
    ):
        choose_attention(name, CPU, dtype, 64)


@pytest.mark.parametrize("name", ["varlen", "flash"])
def test_a_flash_kernel_in_float32_is_an_error(name: AttentionName) -> None:
    with pytest.raises(BackendError, match=rf"attention '{name}' needs dtype float16 or bfloat16, not float32; use"):
        choose_attention(name, CUDA, torch.float32, 64)


@pytest.mark.skipif(HAS_FLASH, reason="flash_attn is installed")
def test_a_kernel_that_is_not_installed_is_an_error() -> None:
    with pytest.raises(BackendError, match="attention 'flash' needs flash_attn, which is not installed; use 'sdpa'"):
        choose_attention("flash", CUDA, torch.float16, 64)


@pytest.mark.parametrize("name", ["sdpa", "eager"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("device", [CPU, CUDA], ids=str)
def test_plain_kernels_run_on_any_device(name: AttentionName, dtype: torch.dtype, device: torch.device) -> None:
    chosen = choose_attention(name, device, dtype, 64)
    assert (chosen.name, chosen.reason) == (name, "asked for")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_auto_selects_sdpa_on_the_cpu(dtype: torch.dtype) -> None:
    chosen = choose_attention("auto", CPU, dtype, 64)
    assert chosen.name == "sdpa"
    assert "cpu" in chosen.reason


def test_auto_selects_sdpa_on_a_gpu_in_float32() -> None:
    chosen = choose_attention("auto", CUDA, torch.float32, 64)
    assert chosen.name == "sdpa"
    assert "needs dtype float16 or bfloat16, not float32" in chosen.reason


@pytest.mark.gpu
@needs_gpu
def test_auto_selects_a_flash_kernel_on_a_gpu_and_gives_the_reason() -> None:
    chosen = choose_attention("auto", CUDA, torch.float16, 64)
    assert chosen.name == ("flash" if HAS_FLASH else "varlen")
    assert chosen.reason


def test_choose_dtype_returns_an_explicit_dtype() -> None:
    assert choose_dtype("float32", CPU) is torch.float32
    assert choose_dtype("float16", CPU) is torch.float16
    assert choose_dtype("bfloat16", CPU) is torch.bfloat16
    assert choose_dtype("float32", CUDA) is torch.float32
    assert choose_dtype("float16", CUDA) is torch.float16


def test_auto_selects_a_16_bit_dtype_only_where_it_is_fast() -> None:
    assert choose_dtype("auto", CPU) in (torch.bfloat16, torch.float32)
    assert choose_dtype("auto", CUDA) is torch.float16


def test_choose_device_prefers_a_gpu() -> None:
    assert choose_device().type == ("cuda" if torch.cuda.is_available() else "cpu")

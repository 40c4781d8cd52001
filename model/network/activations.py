"""The activations that the config of a DistilBERT may name."""

import math
from collections.abc import Callable
from functools import partial
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

from distilray.model.network.names import ActivationName


def _gelu_fast(x: Tensor) -> Tensor:
    return 0.5 * x * (1.0 + torch.tanh(x * 0.7978845608 * (1.0 + 0.044715 * x * x)))


def _gelu_accurate(x: Tensor) -> Tensor:
    return 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


def _quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


def _gelu_10(x: Tensor) -> Tensor:
    return F.gelu(x).clamp(-10.0, 10.0)


def _identity(x: Tensor) -> Tensor:
    return x


_gelu_tanh = partial(F.gelu, approximate="tanh")

ACTIVATIONS: MappingProxyType[ActivationName, Callable[[Tensor], Tensor]] = MappingProxyType(
    {
        "gelu": F.gelu,
        "gelu_python": F.gelu,
        "gelu_new": _gelu_tanh,
        "gelu_pytorch_tanh": _gelu_tanh,
        "gelu_fast": _gelu_fast,
        "gelu_accurate": _gelu_accurate,
        "quick_gelu": _quick_gelu,
        "gelu_10": _gelu_10,
        "relu": F.relu,
        "relu6": F.relu6,
        "relu2": lambda x: F.relu(x).square(),
        "silu": F.silu,
        "swish": F.silu,
        "mish": F.mish,
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        "linear": _identity,
        "leaky_relu": F.leaky_relu,
        "hardswish": F.hardswish,
    }
)

"""The names of heads, attention kernels, dtypes and activations in jobs and in config.json."""

from typing import Literal

HeadName = Literal[
    "token-classification",
    "sequence-classification",
    "multiple-choice",
    "question-answering",
    "masked-lm",
    "first-token",
    "mean-pooling",
]
AttentionName = Literal["auto", "sdpa", "varlen", "flash", "eager"]
DtypeName = Literal["auto", "float32", "float16", "bfloat16"]
ActivationName = Literal[
    "gelu",
    "gelu_python",
    "gelu_new",
    "gelu_pytorch_tanh",
    "gelu_fast",
    "gelu_accurate",
    "quick_gelu",
    "gelu_10",
    "relu",
    "relu6",
    "relu2",
    "silu",
    "swish",
    "mish",
    "tanh",
    "sigmoid",
    "linear",
    "leaky_relu",
    "hardswish",
]

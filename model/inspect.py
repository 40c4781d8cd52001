"""What a checkpoint is, and everything that is wrong with it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from distilray.model.checkpoint.architectures import architecture_by_tensors, check_architecture
from distilray.model.checkpoint.checkpoint import Checkpoint
from distilray.model.checkpoint.formats.load import load_tensors
from distilray.model.checkpoint.weights import Weights, read_weights
from distilray.model.errors import CheckpointError
from distilray.model.network.config import Config, parse_config, parse_json_object
from distilray.model.tokenizer.spec import read_spec
from distilray.model.tokenizer.tokenizer import Tokenizer

_T = TypeVar("_T")
_FORMATS = {
    ".safetensors": "safetensors",
    ".bin": "torch pickle",
    ".h5": "TensorFlow HDF5",
    ".msgpack": "Flax msgpack",
}


@dataclass(frozen=True)
class WeightsReport:
    """file: where the weights begin, an index if there are shards (0 for one file). architecture: the class that the
    tensors show, None if none has them. parameters: numbers, one that two tensors share counted once; size: their bytes.
    """

    file: str
    format: str
    shards: int
    architecture: str | None
    parameters: int
    size: int
    dtypes: tuple[str, ...]


@dataclass(frozen=True)
class TokenizerReport:
    """tokenizer_class: None where no file says; lower_case: None where tokenizer.json decides; max_length: with [CLS]
    and [SEP]; special: role -> token.
    """

    tokenizer_class: str | None
    lower_case: bool | None
    max_length: int
    vocab_size: int
    special: Mapping[str, str]


@dataclass(frozen=True)
class CheckpointReport:
    """What could be read of a checkpoint; None for a part that could not, of which `problems` tells."""

    uri: str
    config: Config | None
    weights: WeightsReport | None
    tokenizer: TokenizerReport | None
    problems: tuple[str, ...]

    @property
    def agree(self) -> bool:
        """Whether the tensors are those of the architecture that config.json names, if it names one."""
        if self.config is None or self.weights is None:
            return False
        return self.config.architecture in {None, self.weights.architecture}


def inspect(checkpoint: Checkpoint) -> CheckpointReport:
    """What is wrong is reported, not raised; weights and tokenizer are held against the config only if that is whole."""
    problems: list[str] = []
    config = _config(checkpoint, problems)
    weights, tensors, tokenizer = None, None, None
    if config is None:
        tensors = _attempt(lambda: load_tensors(checkpoint)[1], problems)
    elif weights := _attempt(lambda: read_weights(checkpoint), problems):
        tensors = dict(weights.tensors)
        _attempt(partial(check_architecture, weights), problems)
    if config is not None:
        tokenizer = _attempt(lambda: _tokenizer_report(checkpoint), problems)
    if tensors is None:
        return CheckpointReport(checkpoint.uri, config, None, tokenizer, tuple(problems))
    if wrong := sorted(name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()):
        problems.append(f"{checkpoint.where(checkpoint.weights_file)}: NaN or infinity in {', '.join(wrong)}")
    return CheckpointReport(
        checkpoint.uri, config, _weights_report(checkpoint, tensors, weights), tokenizer, tuple(problems)
    )


def _attempt(call: Callable[[], _T], problems: list[str]) -> _T | None:
    try:
        return call()
    except CheckpointError as error:
        problems.append(str(error))
        return None


def _config(checkpoint: Checkpoint, problems: list[str]) -> Config | None:
    """The config if nothing is wrong with it; otherwise each complaint about it is found, by leaving out what is wrong."""
    where = checkpoint.where("config.json")
    raw = _attempt(lambda: parse_json_object(checkpoint.require("config.json"), where), problems)
    while raw is not None:
        config, complaint = _parsed(raw, where)
        if config is not None:
            return None if problems else config
        problems.append(complaint)
        others = ({key: value for key, value in raw.items() if key != wrong} for wrong in raw)
        raw = next((rest for rest in others if _parsed(rest, where)[1] != complaint), None)
    return None


def _parsed(raw: Mapping[str, object], where: str) -> tuple[Config | None, str]:
    try:
        return parse_config(json.dumps(raw).encode(), where), ""
    except CheckpointError as error:
        return None, str(error)


def _weights_report(checkpoint: Checkpoint, tensors: Mapping[str, Tensor], weights: Weights | None) -> WeightsReport:
    file = checkpoint.weights_file
    own = {tensor.data_ptr(): tensor for tensor in tensors.values()}.values()
    return WeightsReport(
        file=file,
        format=next(name for suffix, name in _FORMATS.items() if suffix in file),
        shards=len(checkpoint.shards),
        architecture=None if weights is None else architecture_by_tensors(weights),
        parameters=sum(tensor.numel() for tensor in own),
        size=sum(tensor.nbytes for tensor in own),
        dtypes=tuple(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in own})),
    )


def _tokenizer_report(checkpoint: Checkpoint) -> TokenizerReport:
    Tokenizer(checkpoint)  # its errors are those of every file it reads
    spec = read_spec(checkpoint, "text")
    stored = checkpoint.read("tokenizer_config.json")
    settings = {} if stored is None else parse_json_object(stored, checkpoint.where("tokenizer_config.json"))
    return TokenizerReport(
        tokenizer_class=settings.get("tokenizer_class"),
        lower_case=(spec.description.get("normalizer") or {}).get("lowercase"),
        max_length=spec.max_length,
        vocab_size=len(spec.ids),
        special=dict(spec.special),
    )

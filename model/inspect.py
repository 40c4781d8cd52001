"""The description of a checkpoint, with all of its problems."""

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
    """The description of weights.

    file: the file of the weights, or the index of shards. shards: the number of shards, 0 for one file. architecture:
    the class that the tensors fit, None if there is none. parameters: the number of values; shared ones count once.
    size: the bytes of these values.
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
    """The description of a tokenizer.

    tokenizer_class: None if no file names one. lower_case: None if tokenizer.json decides. max_length: with [CLS] and
    [SEP]. special: the token of each role.
    """

    tokenizer_class: str | None
    lower_case: bool | None
    max_length: int
    vocab_size: int
    special: Mapping[str, str]


@dataclass(frozen=True)
class CheckpointReport:
    """The description of a checkpoint. A part that cannot be read is None, and `problems` gives the reason."""

    uri: str
    config: Config | None
    weights: WeightsReport | None
    tokenizer: TokenizerReport | None
    problems: tuple[str, ...]

    @property
    def agree(self) -> bool:
        """Whether the tensors fit the architecture that config.json names, if it names one."""
        if self.config is None or self.weights is None:
            return False
        return self.config.architecture in {None, self.weights.architecture}


def inspect(checkpoint: Checkpoint) -> CheckpointReport:
    """Describe a checkpoint. Problems are reported, not raised.

    Weights and tokenizer are compared with the config only if the config is valid.
    """
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
    if not_finite := sorted(name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()):
        problems.append(f"{checkpoint.where(checkpoint.weights_file)}: NaN or infinity in {', '.join(not_finite)}")
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
    """Return the config, or None if it has problems.

    To find further problems, drop the key whose removal changes the first error, and parse again.
    """
    where = checkpoint.where("config.json")
    raw = _attempt(lambda: parse_json_object(checkpoint.require("config.json"), where), problems)
    while raw is not None:
        config, problem = _parse(raw, where)
        if config is not None:
            return None if problems else config
        problems.append(problem)
        others = ({key: value for key, value in raw.items() if key != dropped} for dropped in raw)
        raw = next((reduced for reduced in others if _parse(reduced, where)[1] != problem), None)
    return None


def _parse(raw: Mapping[str, object], where: str) -> tuple[Config | None, str]:
    try:
        return parse_config(json.dumps(raw).encode(), where), ""
    except CheckpointError as error:
        return None, str(error)


def _weights_report(checkpoint: Checkpoint, tensors: Mapping[str, Tensor], weights: Weights | None) -> WeightsReport:
    file = checkpoint.weights_file
    distinct = {tensor.data_ptr(): tensor for tensor in tensors.values()}.values()
    return WeightsReport(
        file=file,
        format=next(name for suffix, name in _FORMATS.items() if suffix in file),
        shards=len(checkpoint.shards),
        architecture=None if weights is None else architecture_by_tensors(weights),
        parameters=sum(tensor.numel() for tensor in distinct),
        size=sum(tensor.nbytes for tensor in distinct),
        dtypes=tuple(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in distinct})),
    )


def _tokenizer_report(checkpoint: Checkpoint) -> TokenizerReport:
    Tokenizer(checkpoint)  # raises the errors of every file that it reads
    spec = read_spec(checkpoint, "text")
    data = checkpoint.read("tokenizer_config.json")
    settings = {} if data is None else parse_json_object(data, checkpoint.where("tokenizer_config.json"))
    return TokenizerReport(
        tokenizer_class=settings.get("tokenizer_class"),
        lower_case=(spec.description.get("normalizer") or {}).get("lowercase"),
        max_length=spec.max_length,
        vocab_size=len(spec.ids),
        special=dict(spec.special),
    )

"""The validated content of a DistilBERT checkpoint's config.json."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from distilray.model.errors import CheckpointError
from distilray.model.network.names import ActivationName

LAYER_NORM_EPS = 1e-12

# field of Config -> names accepted in config.json; the first that exists is used
_ALIASES = {
    "vocab_size": ("vocab_size",),
    "max_position_embeddings": ("max_position_embeddings",),
    "n_layers": ("n_layers", "num_hidden_layers"),
    "n_heads": ("n_heads", "num_attention_heads"),
    "dim": ("dim", "hidden_size"),
    "hidden_dim": ("hidden_dim", "intermediate_size"),
}
# no DistilBERT is larger; an untrusted file must not decide how much memory is allocated
_MAX_SIZES = {
    "vocab_size": 2**22,
    "max_position_embeddings": 2**16,
    "n_layers": 2**10,
    "n_heads": 2**10,
    "dim": 2**14,
    "hidden_dim": 2**16,
}
_MAX_LABELS = 2**20
_DEFAULTS = {
    "vocab_size": 30522,
    "max_position_embeddings": 512,
    "n_layers": 6,
    "n_heads": 12,
    "dim": 768,
    "hidden_dim": 3072,
}


ProblemType = Literal["single_label_classification", "multi_label_classification", "regression"]


@dataclass(frozen=True)
class Config:
    """The shape of a DistilBERT.

    labels: the labels in the order of the classifier's outputs. problem_type: the value in config.json, None if it is
    absent. architecture: the first entry of `architectures`, None if there is none.
    """

    vocab_size: int
    max_position_embeddings: int
    n_layers: int
    n_heads: int
    dim: int
    hidden_dim: int
    activation: ActivationName
    sinusoidal_pos_embds: bool
    labels: tuple[str, ...]
    problem_type: ProblemType | None
    architecture: str | None

    @property
    def problem(self) -> ProblemType:
        """The problem type. Without one in config.json, one label means regression and several mean a single choice."""
        if self.problem_type is not None:
            return self.problem_type
        return "regression" if len(self.labels) == 1 else "single_label_classification"

    @property
    def head_dim(self) -> int:
        return self.dim // self.n_heads


def parse_config(data: bytes, where: str) -> Config:
    """Parse the bytes of a config.json. `where` names the file in errors.

    Raises CheckpointError for anything but a DistilBERT that this package can compute exactly.
    """
    raw = parse_json_object(data, where)
    model_type = raw.get("model_type", "distilbert")
    if model_type != "distilbert":
        raise CheckpointError(f"{where}: expected model_type 'distilbert', got {model_type!r}")
    if raw.get("pruned_heads"):
        raise CheckpointError(f"{where}: pruned_heads are not supported; save the model without pruning")
    sizes = {name: _size(raw, name, where) for name in _ALIASES}
    if sizes["dim"] % sizes["n_heads"]:
        raise CheckpointError(f"{where}: dim {sizes['dim']} is not divisible by n_heads {sizes['n_heads']}")
    activation = raw.get("activation", "gelu")
    if not isinstance(activation, str) or activation not in get_args(ActivationName):
        raise CheckpointError(
            f"{where}: unknown activation {activation!r}; known: {', '.join(sorted(get_args(ActivationName)))}"
        )
    return Config(
        **sizes,
        activation=cast("ActivationName", activation),
        sinusoidal_pos_embds=bool(raw.get("sinusoidal_pos_embds", False)),
        labels=_labels(raw, where),
        problem_type=_problem_type(raw, where),
        architecture=_architecture(raw),
    )


def parse_json_object(data: bytes, where: str) -> dict[str, Any]:
    """Parse a JSON object. Raises CheckpointError, which names `where`, for anything else."""
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{where}: not valid JSON ({error})") from error
    if not isinstance(raw, dict):
        raise CheckpointError(f"{where}: expected a JSON object, got {type(raw).__name__}")
    return raw


def _size(raw: Mapping[str, Any], name: str, where: str) -> int:
    value = next((raw[alias] for alias in _ALIASES[name] if alias in raw), _DEFAULTS[name])
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise CheckpointError(f"{where}: {name} must be a positive integer, got {value!r}")
    if value > _MAX_SIZES[name]:
        raise CheckpointError(f"{where}: {name} must be at most {_MAX_SIZES[name]}, got {str(value)[:20]}")
    return value


def _architecture(raw: Mapping[str, Any]) -> str | None:
    names = raw.get("architectures")
    return str(names[0]) if isinstance(names, list) and names else None


def _problem_type(raw: Mapping[str, Any], where: str) -> ProblemType | None:
    problem_type: ProblemType | None = raw.get("problem_type")
    if problem_type is not None and problem_type not in get_args(ProblemType):
        raise CheckpointError(f"{where}: problem_type must be one of {get_args(ProblemType)}, got {problem_type!r}")
    return problem_type


def _labels(raw: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """Return the labels of id2label in order of their numbers, which are strings in JSON.

    Without id2label the labels are LABEL_i; there are two unless num_labels gives another number.
    """
    id2label, num_labels = raw.get("id2label"), raw.get("num_labels")
    if num_labels is not None and (type(num_labels) is not int or num_labels < 1):
        raise CheckpointError(f"{where}: num_labels must be a positive integer, got {num_labels!r}")
    if num_labels is not None and num_labels > _MAX_LABELS:
        raise CheckpointError(f"{where}: num_labels must be at most {_MAX_LABELS}, got {str(num_labels)[:20]}")
    if id2label is None:
        return tuple(f"LABEL_{i}" for i in range(2 if num_labels is None else num_labels))
    if not isinstance(id2label, dict) or not all(re.fullmatch(r"0|[1-9]\d{0,8}", str(key)) for key in id2label):
        raise CheckpointError(f"{where}: id2label must map '0', '1', ... to names, got {id2label!r}")
    by_id = {int(key): str(label) for key, label in id2label.items()}
    if sorted(by_id) != list(range(len(by_id))):
        raise CheckpointError(f"{where}: id2label must number its labels 0 to {len(by_id) - 1}, got {sorted(by_id)}")
    if num_labels is not None and num_labels != len(by_id):
        raise CheckpointError(f"{where}: num_labels is {num_labels} but id2label has {len(by_id)} labels")
    return tuple(by_id[i] for i in range(len(by_id)))

"""Tests of config.json: an unsupported value is a CheckpointError that names the value and the file."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from distilray.model.checkpoint.checkpoint import Checkpoint
from distilray.model.errors import CheckpointError
from distilray.model.network.config import Config
from tests.model.errors import checkpoint_error
from tests.support import IOB2, edit_config, make_checkpoint

LABELS = {str(i): label for i, label in enumerate(IOB2)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint with seven labels."""
    return make_checkpoint(tmp_path, layers=1, dim=8, heads=2, hidden_dim=8)


def config_of(folder: Path) -> Config:
    return Checkpoint(str(folder)).config


def config_error(folder: Path) -> str:
    """Return the message of the CheckpointError of a config. The message must name the file."""
    message = checkpoint_error(lambda: config_of(folder))
    assert str(folder / "config.json") in message
    return message


def test_a_missing_config_is_an_error(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=f"no config.json in {re.escape(str(folder))}"):
        config_of(folder)


def test_an_unreadable_store_is_a_checkpoint_error() -> None:
    with pytest.raises(CheckpointError, match="cannot read nosuch://bucket/model/config.json"):
        Checkpoint("nosuch://bucket/model").require("config.json")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff\xfe{}"])
def test_a_config_that_is_not_a_json_object_is_an_error(folder: Path, data: bytes) -> None:
    (folder / "config.json").write_bytes(data)
    config_error(folder)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"num_labels": 3, "id2label": LABELS}, "num_labels is 3 but id2label has 7 labels"),
        ({"id2label": LABELS | {"9": "X"}}, "id2label must number its labels 0 to 7"),
        ({"id2label": {"O": 0, "B-PER": 1}}, "id2label must map '0', '1', ... to names"),
        ({"id2label": list(IOB2)}, "id2label must map '0', '1', ... to names"),
        ({"pruned_heads": {"0": [1]}}, "pruned_heads are not supported"),
        ({"activation": "gelu_fancy"}, "unknown activation 'gelu_fancy'"),
        ({"model_type": "bert"}, "expected model_type 'distilbert', got 'bert'"),
        ({"n_heads": 5}, "dim 8 is not divisible by n_heads 5"),
        ({"n_layers": 0}, "n_layers must be a positive integer, got 0"),
        ({"dim": "48"}, "dim must be a positive integer, got '48'"),
        ({"vocab_size": True}, "vocab_size must be a positive integer, got True"),
        ({"max_position_embeddings": 512.0}, "max_position_embeddings must be a positive integer, got 512.0"),
        ({"problem_type": "ranking"}, "problem_type must be one of ('single_label_classification', "),
        ({"problem_type": 1}, "problem_type must be one of"),
        ({"problem_type": ""}, "problem_type must be one of"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_unsupported_config_is_an_error(folder: Path, changes: dict[str, Any], complaint: str) -> None:
    edit_config(folder, **changes)
    assert complaint in config_error(folder)


@pytest.mark.parametrize("num_labels", ["seven", [7], 0, -1, 2.5])
def test_an_invalid_number_of_labels_is_an_error(folder: Path, num_labels: Any) -> None:
    edit_config(folder, id2label=None, label2id=None, num_labels=num_labels)
    assert re.search(rf"num_labels .*{re.escape(repr(num_labels))}", config_error(folder))


def test_labels_get_numbers_if_the_config_has_no_names(folder: Path) -> None:
    edit_config(folder, id2label=None, label2id=None)
    assert config_of(folder).labels == ("LABEL_0", "LABEL_1")
    edit_config(folder, num_labels=7)
    assert config_of(folder).labels == tuple(f"LABEL_{i}" for i in range(7))


def test_labels_are_sorted_by_id(folder: Path) -> None:
    edit_config(folder, id2label=dict(reversed(LABELS.items())))
    assert config_of(folder).labels == IOB2


@pytest.mark.parametrize(
    ("labels", "configured", "problem"),
    [
        (("a", "b"), None, "single_label_classification"),
        (("a",), None, "regression"),
        (("a", "b"), "regression", "regression"),
        (("a", "b"), "multi_label_classification", "multi_label_classification"),
        (("a",), "multi_label_classification", "multi_label_classification"),
    ],
)
def test_the_problem_is_the_configured_one_or_depends_on_the_number_of_labels(
    tmp_path: Path, labels: tuple[str, ...], configured: str | None, problem: str
) -> None:
    make_checkpoint(tmp_path, labels, head="sequence-classification", problem_type=configured, layers=1)
    config = config_of(tmp_path)
    assert (config.problem_type, config.problem) == (configured, problem)


def test_a_null_problem_type_counts_as_not_configured(folder: Path) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"problem_type": None}))
    assert config_of(folder).problem == "single_label_classification"


def test_defaults_equal_distilbert_base(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    config = config_of(tmp_path)
    sizes = (config.vocab_size, config.max_position_embeddings, config.n_layers, config.n_heads, config.dim)
    assert sizes == (30522, 512, 6, 12, 768)
    assert (config.hidden_dim, config.activation, config.head_dim) == (3072, "gelu", 64)

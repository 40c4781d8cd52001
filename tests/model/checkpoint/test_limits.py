"""Tests of limits: a file that declares too large a size is an error before memory is allocated."""

from pathlib import Path
from typing import Any

import pytest

from distilray.model.checkpoint import checkpoint as checkpoints
from distilray.model.checkpoint.checkpoint import Checkpoint
from distilray.model.checkpoint.formats.load import load_tensors
from distilray.model.checkpoint.weights import read_weights
from distilray.model.errors import CheckpointError
from distilray.model.tokenizer.tokenizer import Tokenizer
from tests.model.checkpoint.test_formats_memory import legacy_file_declaring
from tests.support import edit_config, edit_tensors, make_checkpoint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 2**62}, "vocab_size must be at most 4194304, got 4611686018427387904"),
        ({"max_position_embeddings": 10**9}, "max_position_embeddings must be at most 65536"),
        ({"dim": 2**40, "n_heads": 4}, "dim must be at most 16384"),
        ({"n_layers": 2**31}, "n_layers must be at most 1024"),
        ({"id2label": None, "label2id": None, "num_labels": 10**9}, "num_labels must be at most 1048576"),
    ],
)
def test_a_config_with_huge_sizes_is_an_error(folder: Path, changes: dict[str, Any], message: str) -> None:
    edit_config(folder, **changes)
    with pytest.raises(CheckpointError, match=message.replace("+", "[+]")):
        read_weights(Checkpoint(str(folder)))


def test_huge_generated_positions_are_an_error(folder: Path) -> None:
    edit_config(folder, sinusoidal_pos_embds=True, max_position_embeddings=2**16, dim=2**14)
    edit_tensors(folder, lambda tensors: tensors.pop("distilbert.embeddings.position_embeddings.weight"))
    with pytest.raises(CheckpointError, match="without position embeddings, got 65536 x 16384"):
        read_weights(Checkpoint(str(folder)))


def test_a_huge_legacy_storage_is_an_error_before_torch_allocates_it(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(legacy_file_declaring(1 << 40))
    with pytest.raises(CheckpointError, match=f"expected at most .* bytes, got a tensor of {1 << 40}"):
        load_tensors(Checkpoint(str(tmp_path)))


def test_a_vocabulary_file_that_is_too_long_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "_MAX_FILE_BYTES", 10_000)
    (folder / "vocab.txt").write_bytes(b"x\n" * 5001)
    with pytest.raises(CheckpointError, match="vocab.txt: expected at most 10000 bytes, got 10002"):
        Tokenizer(Checkpoint(str(folder)))

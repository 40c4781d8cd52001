"""Helpers for the tests of broken checkpoints: files to break, and the messages of their errors."""

import io
import shutil
from pathlib import Path
from typing import Any

import torch

from distilray.model.checkpoint.checkpoint import Checkpoint
from distilray.model.checkpoint.formats.load import load_tensors
from tests.fixtures import HERE, write_torch
from tests.model.errors import checkpoint_error

HEAD = "token_classification"
FORMATS = ("tf_h5", "flax", "safetensors", "bin", "bin_legacy")
FILES = {
    "tf_h5": "tf_model.h5",
    "flax": "flax_model.msgpack",
    "safetensors": "model.safetensors",
    "bin": "pytorch_model.bin",
    "bin_legacy": "pytorch_model.bin",
}
LEGACY = {"_use_new_zipfile_serialization": False}  # the format of torch before 1.6


def write_checkpoint(kind: str, folder: Path) -> Path:
    """Write a checkpoint of a format into a folder. Return the path of its weights file."""
    if (HERE / kind).exists():
        shutil.copytree(HERE / kind / HEAD, folder, dirs_exist_ok=True)
    else:
        write_torch(HEAD, kind, folder)
    return folder / FILES.get(kind, "config.json")


def load_error(folder: Path) -> str:
    """Return the message of the CheckpointError that loading the tensors of a folder raises."""
    return checkpoint_error(lambda: load_tensors(Checkpoint(str(folder))))


def load_error_of_bytes(data: bytes, file: Path) -> str:
    """Return the message of the CheckpointError for a folder with only this file. The message must name the file."""
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(data)
    message = load_error(file.parent)
    assert str(file) in message
    return message


def saved(state: object, **options: Any) -> bytes:
    """Return the bytes that torch.save writes for a state."""
    buffer = io.BytesIO()
    torch.save(state, buffer, **options)
    return buffer.getvalue()

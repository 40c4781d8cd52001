"""Checkpoints to break, and what is said of them."""

import io
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from distilray.model.checkpoint.checkpoint import Checkpoint
from distilray.model.checkpoint.formats.load import load_tensors
from distilray.model.errors import CheckpointError
from tests.fixtures import HERE, write_torch

HEAD = "token_classification"
FORMATS = ("tf_h5", "flax", "safetensors", "bin", "bin_legacy")
FILES = {
    "tf_h5": "tf_model.h5",
    "flax": "flax_model.msgpack",
    "safetensors": "model.safetensors",
    "bin": "pytorch_model.bin",
    "bin_legacy": "pytorch_model.bin",
}
LEGACY = {"_use_new_zipfile_serialization": False}  # how torch saved before 1.6


def make(kind: str, folder: Path) -> Path:
    """A checkpoint of that format to break; its file of weights."""
    if (HERE / kind).exists():
        shutil.copytree(HERE / kind / HEAD, folder, dirs_exist_ok=True)
    else:
        write_torch(HEAD, kind, folder)
    return folder / FILES.get(kind, "config.json")


def load_error(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_tensors(Checkpoint(str(folder)))
    return str(caught.value)


def load_error_of_bytes(data: bytes, file: Path) -> str:
    """What is said of a folder with that file alone; it is named."""
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(data)
    message = load_error(file.parent)
    assert str(file) in message
    return message


def saved(state: object, **options: Any) -> bytes:
    """What torch.save makes of it."""
    buffer = io.BytesIO()
    torch.save(state, buffer, **options)
    return buffer.getvalue()

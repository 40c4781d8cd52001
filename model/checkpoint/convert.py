"""Conversion of any checkpoint to the safetensors that Transformers loads."""

import json
from collections.abc import Mapping
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from distilray.model.checkpoint.architectures import BASE, check_architecture
from distilray.model.checkpoint.checkpoint import TOKENIZER, WEIGHTS, Checkpoint
from distilray.model.checkpoint.formats.names import is_encoder
from distilray.model.checkpoint.weights import read_weights
from distilray.model.errors import CheckpointError, StoreError
from distilray.model.network.config import parse_json_object
from distilray.model.storage.store import open_store

_WORD_EMBEDDINGS, _PROJECTOR = "embeddings.word_embeddings.weight", "vocab_projector.weight"
# the last two are read by Transformers' tokenizers only
_TOKENIZER_FILES = (*TOKENIZER, "special_tokens_map.json", "added_tokens.json")


def convert(checkpoint: Checkpoint, out: str, storage_options: Mapping[str, Any]) -> None:
    """Write config.json, model.safetensors and the unchanged tokenizer files into the empty folder `out`.

    `out` is a local folder or a URL of fsspec. Tensors keep their dtype and values. A projector that equals the word
    embeddings is omitted, as in Transformers; config.json states whether the two are tied. Computed
    position embeddings are stored, too.

    config.json is written last, so that an interrupted conversion leaves no complete checkpoint. Raises CheckpointError
    if the checkpoint is incomplete, or if the folder is not empty.
    """
    weights = read_weights(checkpoint)
    architecture = check_architecture(weights)
    config = parse_json_object(checkpoint.require("config.json"), checkpoint.where("config.json"))
    config |= {"architectures": [architecture], "model_type": "distilbert"}
    tensors = dict(weights.tensors)
    if _PROJECTOR in tensors:
        tied = torch.equal(tensors[_PROJECTOR], tensors[_WORD_EMBEDDINGS]) and config.get("tie_word_embeddings", True)
        config["tie_word_embeddings"] = bool(tied)
        if tied:
            del tensors[_PROJECTOR]
    files = {name: data for name in _TOKENIZER_FILES if (data := checkpoint.read(name)) is not None}
    files[WEIGHTS] = _serialized(tensors, "" if architecture == BASE else "distilbert.")
    files["config.json"] = json.dumps(config, indent=2).encode() + b"\n"
    _write(files, out, storage_options)


def _serialized(tensors: Mapping[str, Tensor], prefix: str) -> bytes:
    # the format cannot store two tensors that share memory
    named = {f"{prefix if is_encoder(name) else ''}{name}": tensor.clone() for name, tensor in tensors.items()}
    return safetensors.torch.save(named, metadata={"format": "pt"})


def _write(files: Mapping[str, bytes], out: str, storage_options: Mapping[str, Any]) -> None:
    try:
        fs, root = open_store(out, storage_options)
        if fs.exists(root) and (files_in_folder := fs.ls(root, detail=False)):
            raise CheckpointError(
                f"{out} is not empty: it contains {files_in_folder[0]}; expected a new or empty folder"
            )
        fs.makedirs(root, exist_ok=True)
        for name, data in files.items():
            fs.pipe_file(f"{root}/{name}", data)
    except (CheckpointError, StoreError):
        raise
    except Exception as error:  # every store has its own exceptions
        raise CheckpointError(f"cannot write {out}: {type(error).__name__}: {error}") from error

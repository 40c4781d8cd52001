"""The files of a checkpoint, wherever fsspec can reach them."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import fsspec

from distilray.model.config import CheckpointError, Config, parse_config

WEIGHTS = "model.safetensors"
_FILES = ("config.json", "tokenizer_config.json", "tokenizer.json", "vocab.txt", WEIGHTS)


@dataclass(frozen=True)
class Checkpoint:
    """A folder with config.json, model.safetensors and a tokenizer; files are read when asked for."""

    uri: str
    storage_options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def config(self) -> Config:
        """Raises CheckpointError if config.json is missing or not a DistilBERT's."""
        return parse_config(self.require("config.json"), self.where("config.json"))

    def read(self, name: str) -> bytes | None:
        """The bytes of file `name`, None if there is no such file; CheckpointError if it cannot be read."""
        try:
            fs, root = fsspec.url_to_fs(self.uri, **self.storage_options)
            data: bytes = fs.cat_file(f"{root.rstrip('/')}/{name}")
        except FileNotFoundError:
            return None
        except Exception as error:  # every store has its own exceptions; all of them mean "unreadable"
            raise CheckpointError(f"cannot read {self.where(name)}: {type(error).__name__}: {error}") from error
        return data

    def require(self, name: str) -> bytes:
        """The bytes of file `name`; CheckpointError if it is missing."""
        data = self.read(name)
        if data is None:
            raise CheckpointError(
                f"no {name} in {self.uri}: expected a folder with config.json, {WEIGHTS}, and vocab.txt or tokenizer.json "
                "(local paths are relative to the working directory; names on a hub are not downloaded)"
            )
        return data

    def where(self, name: str) -> str:
        """The address of file `name`, for errors."""
        return f"{self.uri.rstrip('/')}/{name}"

    def digest(self) -> str:
        """sha256 over the files that decide the answers: what makes two checkpoints the same."""
        sha = hashlib.sha256()
        for name in _FILES:
            data = self.read(name)
            if data is not None:
                sha.update(f"{name}:{len(data)}:".encode())
                sha.update(data)
        return sha.hexdigest()

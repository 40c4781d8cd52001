"""The files of a checkpoint, wherever fsspec can reach them."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from distilray.model.errors import CheckpointError, StoreError
from distilray.model.network.config import Config, parse_config, parse_json_object
from distilray.model.storage.redact import redacted
from distilray.model.storage.store import explain, open_store

WEIGHTS = "model.safetensors"
INDEX = ".index.json"  # of a file in shards
_WEIGHTS = (WEIGHTS, "pytorch_model.bin", "tf_model.h5", "flax_model.msgpack")
_WEIGHTS_ENDINGS = tuple(f".{name.rpartition('.')[2]}" for name in _WEIGHTS)
_LARGEST = 2**27  # bytes of a file that is no weights: a vocabulary of a million tokens has 2**25
TOKENIZER = ("tokenizer_config.json", "tokenizer.json", "vocab.txt")
_EXPECTED = (
    "expected a folder with config.json, weights, and vocab.txt or tokenizer.json (a local path is relative to the "
    "working directory; a model of the Hugging Face hub is hf://org/name@revision)"
)


@dataclass(frozen=True)
class Checkpoint:
    """A folder with config.json, weights and a tokenizer; files are read when asked for.

    uri: a local folder, any URL of fsspec, or hf://org/name@revision for a model of the Hugging Face hub.
    """

    uri: str
    storage_options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def config(self) -> Config:
        """Raises CheckpointError if config.json is missing or not a DistilBERT's."""
        return parse_config(self.require("config.json"), self.where("config.json"))

    @cached_property
    def weights_file(self) -> str:
        """The first there is of model.safetensors, pytorch_model.bin, tf_model.h5 and flax_model.msgpack, the index of
        each one's shards coming right after it. Raises CheckpointError if there is none.
        """
        for name in _WEIGHTS:
            for file in (name, name + INDEX):
                if self._has(file):
                    return file
        others = ", ".join(name for name in _WEIGHTS if name != WEIGHTS)
        raise CheckpointError(f"no {WEIGHTS} in {self.uri}, nor {others}, nor the {INDEX} of one's shards; {_EXPECTED}")

    @cached_property
    def shards(self) -> dict[str, tuple[str, ...]]:
        """Shard -> the tensors that the index places there, both as the index names them; {} for a single file.

        Raises CheckpointError for an index that is broken, or points out of its folder.
        """
        if not self.weights_file.endswith(INDEX):
            return {}
        where = self.where(self.weights_file)
        placed = parse_json_object(self.require(self.weights_file), where).get("weight_map")
        if not isinstance(placed, dict) or not placed:
            raise CheckpointError(f"{where}: expected a weight_map from tensors to files, got {placed!r}")
        for shard in placed.values():
            if not isinstance(shard, str) or not re.fullmatch(r"\w[\w.-]*", shard, re.ASCII):
                raise CheckpointError(f"{where}: expected the plain name of a file beside it, got {shard!r}")
        shards: dict[str, list[str]] = {shard: [] for shard in sorted(placed.values())}
        for tensor, shard in placed.items():
            shards[shard].append(tensor)
        return {shard: tuple(names) for shard, names in shards.items()}

    def read(self, name: str) -> bytes | None:
        """The bytes of file `name`, None if there is no such file; CheckpointError if it cannot be read."""
        try:
            return self._fetch(name)
        except FileNotFoundError:
            return None

    def require(self, name: str) -> bytes:
        """The bytes of file `name`; CheckpointError if it is missing."""
        try:
            return self._fetch(name)
        except FileNotFoundError as error:
            reason = (
                f": {redacted(str(error))}" if error.__cause__ else ""
            )  # a hub says which of repository, revision and file it lacks
            raise CheckpointError(f"no {name} in {self.uri}{reason}; {_EXPECTED}") from error

    def where(self, name: str) -> str:
        """The address of file `name`, for errors."""
        return f"{self.uri.rstrip('/')}/{name}"

    def digest(self) -> str:
        """sha256 over the files that decide the answers: what makes two checkpoints the same.

        A file that was read before is not read again: the digest is of the bytes that were used.
        """
        sha = hashlib.sha256()
        for name in ("config.json", *TOKENIZER, self.weights_file, *self.shards):
            if name in self._sums or self.read(name) is not None:
                sha.update(f"{name}:{self._sums[name]}\n".encode())
        return sha.hexdigest()

    @cached_property
    def _sums(self) -> dict[str, str]:
        """sha256 of every file read so far."""
        return {}

    def _fetch(self, name: str) -> bytes:
        with self._store(name) as (fs, path):
            size = 0 if name.endswith(_WEIGHTS_ENDINGS) else int(fs.info(path)["size"] or 0)
            if size > _LARGEST:
                raise CheckpointError(f"{self.where(name)}: expected at most {_LARGEST} bytes, got {size}")
            data: bytes = fs.cat_file(path)
        self._sums[name] = hashlib.sha256(data).hexdigest()
        return data

    def _has(self, name: str) -> bool:
        try:
            with self._store(name) as (fs, path):
                fs.info(path)
        except FileNotFoundError:
            return False
        return True

    @contextmanager
    def _store(self, name: str) -> Iterator[tuple[Any, str]]:
        """The file system and the path of file `name`; within, only FileNotFoundError and StoreError keep their types."""
        try:
            fs, root = open_store(self.uri, self.storage_options)
            yield fs, f"{root}/{name}"
        except (FileNotFoundError, CheckpointError):
            raise
        except StoreError as error:
            raise StoreError(f"cannot read {self.where(name)}: {error}") from error
        except Exception as error:  # every store has its own exceptions; all of them mean "unreadable"
            raise CheckpointError(f"cannot read {self.where(name)}: {explain(error)}") from error

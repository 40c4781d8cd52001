"""The files of a checkpoint, in a local folder, a store of fsspec or the Hugging Face hub."""

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
INDEX = ".index.json"  # the suffix of the file that lists the shards of weights
_WEIGHTS_FILES = (WEIGHTS, "pytorch_model.bin", "tf_model.h5", "flax_model.msgpack")
_WEIGHTS_ENDINGS = tuple(f".{name.rpartition('.')[2]}" for name in _WEIGHTS_FILES)
_MAX_FILE_BYTES = 2**27  # for a file without weights; a vocabulary of a million tokens has 2**25 bytes
TOKENIZER = ("tokenizer_config.json", "tokenizer.json", "vocab.txt")
_EXPECTED = (
    "expected a folder with config.json, weights, and vocab.txt or tokenizer.json (a local path is relative to the "
    "working directory; a model of the Hugging Face hub is hf://org/name@revision)"
)


@dataclass(frozen=True)
class Checkpoint:
    """A folder with config.json, weights and a tokenizer. Its files are read on first use.

    uri: a local folder, any URL of fsspec, or hf://org/name@revision for a model of the Hugging Face hub.
    """

    uri: str
    storage_options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def config(self) -> Config:
        """The parsed config.json. Raises CheckpointError if it is missing or does not describe a DistilBERT."""
        return parse_config(self.require("config.json"), self.where("config.json"))

    @cached_property
    def weights_file(self) -> str:
        """The name of the file that holds the weights, or of the index of their shards.

        It is the first file that exists in the order model.safetensors, pytorch_model.bin, tf_model.h5 and
        flax_model.msgpack. Each of these is followed by its index, such as model.safetensors.index.json. Raises
        CheckpointError if no such file exists.
        """
        for name in _WEIGHTS_FILES:
            for file in (name, name + INDEX):
                if self._exists(file):
                    return file
        others = ", ".join(name for name in _WEIGHTS_FILES if name != WEIGHTS)
        raise CheckpointError(f"no {WEIGHTS} in {self.uri}, no {others}, and no {INDEX} of one of these; {_EXPECTED}")

    @cached_property
    def shards(self) -> dict[str, tuple[str, ...]]:
        """The names of the tensors of each shard, by the name of its file. Empty if the weights are a single file.

        Raises CheckpointError for an index that is broken, or that names files outside its folder.
        """
        if not self.weights_file.endswith(INDEX):
            return {}
        where = self.where(self.weights_file)
        weight_map = parse_json_object(self.require(self.weights_file), where).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise CheckpointError(f"{where}: expected a weight_map from tensors to files, got {weight_map!r}")
        for shard in weight_map.values():
            if not isinstance(shard, str) or not re.fullmatch(r"\w[\w.-]*", shard, re.ASCII):
                raise CheckpointError(f"{where}: expected names of files in the same folder, got {shard!r}")
        shards: dict[str, list[str]] = {shard: [] for shard in sorted(weight_map.values())}
        for tensor, shard in weight_map.items():
            shards[shard].append(tensor)
        return {shard: tuple(names) for shard, names in shards.items()}

    def read(self, name: str) -> bytes | None:
        """Return the bytes of file `name`, or None if it does not exist. Raises CheckpointError if it is unreadable."""
        try:
            return self._fetch(name)
        except FileNotFoundError:
            return None

    def require(self, name: str) -> bytes:
        """Return the bytes of file `name`. Raises CheckpointError if it is missing or cannot be read."""
        try:
            return self._fetch(name)
        except FileNotFoundError as error:
            # the error of a hub names what is missing: repository, revision or file
            reason = f": {redacted(str(error))}" if error.__cause__ else ""
            raise CheckpointError(f"no {name} in {self.uri}{reason}; {_EXPECTED}") from error

    def where(self, name: str) -> str:
        """Return the address of file `name`, for errors."""
        return f"{self.uri.rstrip('/')}/{name}"

    def digest(self) -> str:
        """Return the sha256 over the files that decide the answers. Equal digests mean equal checkpoints.

        A file that was read before is not read again, so the digest covers the bytes that were used.
        """
        digest = hashlib.sha256()
        for name in ("config.json", *TOKENIZER, self.weights_file, *self.shards):
            if name in self._digests or self.read(name) is not None:
                digest.update(f"{name}:{self._digests[name]}\n".encode())
        return digest.hexdigest()

    @cached_property
    def _digests(self) -> dict[str, str]:
        """The sha256 of every file that was read."""
        return {}

    def _fetch(self, name: str) -> bytes:
        with self._open(name) as (fs, path):
            size = 0 if name.endswith(_WEIGHTS_ENDINGS) else int(fs.info(path)["size"] or 0)
            if size > _MAX_FILE_BYTES:
                raise CheckpointError(f"{self.where(name)}: expected at most {_MAX_FILE_BYTES} bytes, got {size}")
            data: bytes = fs.cat_file(path)
        self._digests[name] = hashlib.sha256(data).hexdigest()
        return data

    def _exists(self, name: str) -> bool:
        try:
            with self._open(name) as (fs, path):
                fs.info(path)
        except FileNotFoundError:
            return False
        return True

    @contextmanager
    def _open(self, name: str) -> Iterator[tuple[Any, str]]:
        """Yield the file system and the path of file `name`.

        In the block, every error except FileNotFoundError and StoreError becomes CheckpointError.
        """
        try:
            fs, root = open_store(self.uri, self.storage_options)
            yield fs, f"{root}/{name}"
        except (FileNotFoundError, CheckpointError):
            raise
        except StoreError as error:
            raise StoreError(f"cannot read {self.where(name)}: {error}") from error
        except Exception as error:  # every store has its own exceptions; all of them mean "unreadable"
            raise CheckpointError(f"cannot read {self.where(name)}: {explain(error)}") from error

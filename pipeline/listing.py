"""The files of a corpus: which they are, and what tells one content of each from another."""

import fnmatch
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem
from fsspec.utils import glob_translate

from distilray.model.store import StoreError, explain, open_store
from distilray.operators.read import version
from distilray.pipeline.errors import JobError
from distilray.pipeline.job import Source

_ENDINGS = (".parquet", ".parq", ".pq")
_GLOB = "*?["
_NOWHERE = "nowhere"  # the type of a link that leads to nothing


@dataclass(frozen=True)
class Shard:
    """A file of the corpus. size: bytes; groups: (rows, uncompressed bytes of text) of each row group.

    error: (reason, message) if its rows cannot be read at all.
    """

    uri: str
    version: str
    size: int
    schema: pa.Schema = field(default_factory=lambda: pa.schema([]))
    groups: tuple[tuple[int, int], ...] = ()
    error: tuple[str, str] | None = None

    @property
    def rows(self) -> int:
        return sum(rows for rows, _ in self.groups)


def list_shards(source: Source) -> Iterator[Shard]:
    """Every Parquet file, not opened, sorted within each of the source's URIs.

    Files and folders whose names start with "_" or "." are not part of a corpus. Raises JobError if a place cannot
    be listed, or is named twice, StoreError if the store fails.
    """
    return (shard for _, files in listed(source) for shard in files.values())


def listed(source: Source, endings: tuple[str, ...] = _ENDINGS) -> Iterator[tuple[Any, dict[str, Shard]]]:
    """For each of the source's URIs its file system, and the shards by their path on it, not yet opened.

    endings: of the files in folders that count.
    """
    seen: set[str] = set()
    for uri in source.uris:
        try:
            fs, path = open_store(uri, source.storage_options)
            fs.invalidate_cache()  # fsspec keeps listings for as long as the process lives
            infos = _find(fs, path, uri, endings)
        except StoreError as error:
            raise StoreError(f"cannot list source {uri}: {error}") from error
        except Exception as error:  # every store has its own exceptions; all of them mean "cannot be listed"
            raise JobError(f"cannot list source {uri}: {explain(error)}") from error
        files = {}
        for name in sorted(infos):
            shard = fs.unstrip_protocol(name) if "://" in uri else name
            if shard in seen:
                raise JobError(f"{shard} is named twice by source.uri: its rows would be answered twice")
            seen.add(shard)
            info = infos.pop(name)
            if info["size"] is None:
                raise JobError(f"{shard}: its store does not tell its size, without which no footer can be found")
            files[name] = Shard(shard, version(info), info["size"])
        yield fs, files


def _find(fs: Any, path: str, uri: str, endings: tuple[str, ...]) -> dict[str, Mapping[str, Any]]:
    """Files under a folder, those a glob matches (or has under a folder it matches), or the one file."""
    try:
        info = fs.info(path)
    except FileNotFoundError:
        if not any(mark in path for mark in _GLOB):
            raise FileNotFoundError(f"no such file, folder or bucket: {uri}") from None
    else:
        return {path: info} if info["type"] == "file" else _files(fs, path, endings)
    fixed = fixed_part(path)
    matches = _matches(fs, path, fixed).items()
    seen = {name: info for name, info in matches if not _is_hidden(name.removeprefix(fixed))}
    files = {name: info for name, info in seen.items() if info["type"] == "file"}
    folders = (name for name, info in seen.items() if info["type"] != "file")
    return files | {name: info for folder in folders for name, info in _files(fs, folder, endings).items()}


def fixed_part(pattern: str) -> str:
    """The folder before the first mark of a glob."""
    return pattern[: min(pattern.find(mark) for mark in _GLOB if mark in pattern)].rpartition("/")[0]


def _matches(fs: Any, pattern: str, fixed: str) -> dict[str, Mapping[str, Any]]:
    """What a glob matches, `fixed` being what is before its first mark; fsspec's own passes by a folder it cannot list."""
    if "**" in pattern:
        whole = re.compile(glob_translate(pattern))
        parts = ((name, info, accumulate(name.split("/"), "{}/{}".format)) for name, info in _below(fs, fixed))
        return {name: info for name, info, folders in parts if any(map(whole.match, folders))}
    level: dict[str, Mapping[str, Any]] = {fixed: {"type": "directory"}}
    for part in pattern.removeprefix(fixed).strip("/").split("/"):
        fits = re.compile(fnmatch.translate(part)).match
        below = [info for name, of in level.items() if of["type"] == "directory" for info in _entries(fs, name)]
        level = {info["name"]: info for info in below if fits(info["name"].rstrip("/").rsplit("/", 1)[-1])}
    return level


def _files(fs: Any, folder: str, endings: tuple[str, ...]) -> dict[str, Mapping[str, Any]]:
    found = {name: info for name, info in _below(fs, folder) if name.endswith(endings)}
    files = {name: info for name, info in found.items() if not _is_hidden(name.removeprefix(folder))}
    if lost := [name for name, info in files.items() if info["type"] == _NOWHERE]:
        raise FileNotFoundError(f"{lost[0]} is a link to nothing")
    return files


def _below(fs: Any, folder: str) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """Every file; fsspec's walk over a disk passes by a folder it cannot list."""
    if isinstance(fs, LocalFileSystem):
        return _tree(fs, folder)
    found: dict[str, Mapping[str, Any]] = fs.find(folder, detail=True)
    return found.items()


def _tree(fs: Any, folder: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for info in _entries(fs, folder):
        if info["type"] != "directory":
            yield info["name"], info
        elif not _is_hidden(info["name"].rsplit("/", 1)[-1]):
            if info["islink"]:  # it may lead back, or to shards that are in the corpus anyway
                raise OSError(f"{info['name']} is a link to a folder: name it in source.uri, or let a glob match it")
            yield from _tree(fs, info["name"])


def _entries(fs: Any, folder: str) -> Iterator[Mapping[str, Any]]:
    """What lies in a folder; of a link what it leads to."""
    for info in fs.ls(folder, detail=True):
        try:
            yield fs.info(info["name"]) if info.get("islink") else info
        except FileNotFoundError:
            yield {**info, "type": _NOWHERE}


def _is_hidden(path: str) -> bool:
    """Whether any part of a path below the source is a marker, a draft, or a folder of such."""
    return any(part.startswith(("_", ".")) for part in path.split("/"))

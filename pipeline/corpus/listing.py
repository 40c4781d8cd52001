"""The files of a corpus: which they are, and what tells one content of each from another."""

import errno
import fnmatch
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem
from fsspec.utils import glob_translate

from distilray.model.errors import StoreError
from distilray.model.storage.store import explain, open_store
from distilray.operators.rows.unit import version
from distilray.pipeline.errors import JobError
from distilray.pipeline.job.job import Source

_ENDINGS = (".parquet", ".parq", ".pq")
_GLOB = "*?["
_NOWHERE, _LINKED = "nowhere", "linked folder"  # types of links: to nothing, and to a folder


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
    return (shard for _, files in list_files(source) for shard in files.values())


def list_files(source: Source, endings: tuple[str, ...] = _ENDINGS) -> Iterator[tuple[Any, dict[str, Shard]]]:
    """For each of the source's URIs its file system, and the shards by their path on it, not yet opened.

    endings: of the files in folders that count.
    """
    seen: set[str] = set()
    named = [os.path.abspath(uri.removeprefix("file://")) for uri in source.uris]
    for uri in source.uris:
        try:
            fs, path = open_store(uri, source.storage_options)
            fs.invalidate_cache()  # fsspec keeps listings for as long as the process lives
            infos = _find(fs, path, uri, endings, named)
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


def _find(fs: Any, path: str, uri: str, endings: tuple[str, ...], named: Iterable[str]) -> dict[str, Mapping[str, Any]]:
    """Files under a folder, those a glob matches (or has under a folder it matches), or the one file.

    named: by the source; linked folders among them are listed there only.
    """
    try:
        info = fs.info(path)
    except FileNotFoundError:
        if not any(mark in path for mark in _GLOB):
            raise FileNotFoundError(f"no such file, folder or bucket: {uri}") from None
    else:
        return {path: info} if info["type"] == "file" else _files(fs, path, endings, named)
    fixed = fixed_part(path)
    matches = _matches(fs, path, fixed, named).items()
    seen = _there({name: info for name, info in matches if not _is_hidden(name.removeprefix(fixed))})
    files = {name: info for name, info in seen.items() if info["type"] == "file"}
    folders = (name for name, info in seen.items() if info["type"] != "file")
    return files | {name: info for folder in folders for name, info in _files(fs, folder, endings, named).items()}


def fixed_part(pattern: str) -> str:
    """The folder before the first mark of a glob."""
    return pattern[: min(pattern.find(mark) for mark in _GLOB if mark in pattern)].rpartition("/")[0]


def _matches(fs: Any, pattern: str, fixed: str, named: Iterable[str]) -> dict[str, Mapping[str, Any]]:
    """What a glob matches, `fixed` being what is before its first mark; fsspec's own passes by a folder it cannot list."""
    if "**" in pattern:
        whole = re.compile(glob_translate(pattern))
        parts = ((name, info, accumulate(name.split("/"), "{}/{}".format)) for name, info in _below(fs, fixed, named))
        return _taken(((name, info, any(map(whole.match, folders))) for name, info, folders in parts))
    level: dict[str, Mapping[str, Any]] = {fixed: {"type": "directory"}}
    for part in pattern.removeprefix(fixed).strip("/").split("/"):
        folders = [name for name, info in level.items() if info["type"] == "directory"]
        level = {info["name"]: info for name in folders for info in _entries(fs, name, part)}
    return level


def _files(fs: Any, folder: str, endings: tuple[str, ...], named: Iterable[str]) -> dict[str, Mapping[str, Any]]:
    below = ((name, info) for name, info in _below(fs, folder, named) if not _is_hidden(name.removeprefix(folder)))
    return _there(_taken((name, info, info["type"] != _LINKED and name.endswith(endings)) for name, info in below))


def _taken(found: Iterable[tuple[str, Mapping[str, Any], bool]]) -> dict[str, Mapping[str, Any]]:
    """What is marked as taken. Raises OSError for a linked folder that is not: it may hold shards, or those that are
    in the corpus anyway, or lead back."""
    taken = {}
    for name, info, takes in found:
        if takes:
            taken[name] = info
        elif info["type"] == _LINKED:
            says = "name it too in source.uri, or use a glob that matches it, or one without ** that leaves it out"
            raise OSError(f"{name} is a link to a folder: {says}")
    return taken


def _there(files: dict[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    if lost := [name for name, info in files.items() if info["type"] == _NOWHERE]:
        raise FileNotFoundError(f"{lost[0]} is a link to nothing")
    return files


def _below(fs: Any, folder: str, named: Iterable[str]) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """Every file, and linked folders; fsspec's walk over a disk passes by a folder it cannot list."""
    if isinstance(fs, LocalFileSystem):
        return _tree(fs, folder, named)
    found: dict[str, Mapping[str, Any]] = fs.find(folder, detail=True)
    return found.items()


def _tree(fs: Any, folder: str, named: Iterable[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for info in _entries(fs, folder, "*"):
        name = info["name"]
        if info["type"] != "directory":
            yield name, info
        elif not info["islink"]:
            yield from _tree(fs, name, named)
        elif not any(f"{each}/".startswith(f"{name}/") for each in named):
            yield name, {**info, "type": _LINKED}


def _entries(fs: Any, folder: str, pattern: str) -> Iterator[Mapping[str, Any]]:
    """What lies in a folder, is not hidden, and has a name that a pattern matches; of a link what it leads to."""
    for info in fs.ls(folder, detail=True):
        name = info["name"].rstrip("/").rsplit("/", 1)[-1]
        if fnmatch.fnmatchcase(name, pattern) and not _is_hidden(name):
            yield _followed(fs, info) if info.get("islink") else info


def _followed(fs: Any, info: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        followed: Mapping[str, Any] = fs.info(info["name"])
    except OSError as error:  # what may be there and cannot be looked at is an error
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise
        return {**info, "type": _NOWHERE}
    return followed


def _is_hidden(path: str) -> bool:
    """Whether any part of a path below the source is a marker, a draft, or a folder of such."""
    return any(part.startswith(("_", ".")) for part in path.split("/"))

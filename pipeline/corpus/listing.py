"""The listing of a corpus: its files, with a version of each that changes with its content."""

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
_BROKEN_LINK, _LINKED_FOLDER = "broken link", "linked folder"  # the "type" of links in listings


@dataclass(frozen=True)
class Shard:
    """A file of the corpus.

    version: the ETag or the size of the file. size: the size in bytes. groups: (rows, uncompressed bytes of text) of
    each row group. error: (reason, message) of the shard's dead letter if no row can be read, else None.
    """

    uri: str
    version: str
    size: int
    schema: pa.Schema = field(default_factory=lambda: pa.schema([]))
    groups: tuple[tuple[int, int], ...] = ()
    error: tuple[str, str] | None = None

    @property
    def rows(self) -> int:
        """The number of rows in all row groups."""
        return sum(rows for rows, _ in self.groups)


def list_shards(source: Source) -> Iterator[Shard]:
    """List every Parquet file without opening it. The files of each URI of the source are sorted by path.

    Files and folders whose names start with "_" or "." are not part of a corpus. Raises JobError if a URI cannot be
    listed or if a file is listed twice, and StoreError if the store fails.
    """
    return (shard for _, files in list_files(source) for shard in files.values())


def list_files(source: Source, endings: tuple[str, ...] = _ENDINGS) -> Iterator[tuple[Any, dict[str, Shard]]]:
    """Yield, for each URI of the source, its file system and its shards by path. No file is opened.

    endings: below a folder, only files with one of these endings are listed. Raises JobError and StoreError as
    `list_shards` does.
    """
    listed: set[str] = set()
    roots = [os.path.abspath(uri.removeprefix("file://")) for uri in source.uris]
    for uri in source.uris:
        try:
            fs, path = open_store(uri, source.storage_options)
            fs.invalidate_cache()  # fsspec caches listings until the process ends
            infos = _find(fs, path, uri, endings, roots)
        except StoreError as error:
            raise StoreError(f"cannot list source {uri}: {error}") from error
        except Exception as error:  # stores raise exceptions of many types
            raise JobError(f"cannot list source {uri}: {explain(error)}") from error
        files = {}
        for name in sorted(infos):
            shard = fs.unstrip_protocol(name) if "://" in uri else name
            if shard in listed:
                raise JobError(
                    f"{shard} is listed twice by source.uri, and its rows would be answered twice: remove one of the "
                    "URIs that list it"
                )
            listed.add(shard)
            info = infos.pop(name)
            if info["size"] is None:
                raise JobError(
                    f"{shard}: its store does not report its size, which is needed to find the footer; copy the corpus "
                    "to a store that reports sizes"
                )
            files[name] = Shard(shard, version(info), info["size"])
        yield fs, files


def _find(fs: Any, path: str, uri: str, endings: tuple[str, ...], roots: Iterable[str]) -> dict[str, Mapping[str, Any]]:
    """Find the files of one URI: the file itself, the files below a folder, or the files that a glob matches.

    If a glob matches a folder, the files below that folder are found. roots: the paths of all URIs. A walk skips a
    linked folder that is one of them or that contains one of them. Raises FileNotFoundError if the path does not exist,
    and OSError for any other linked folder below a folder.
    """
    try:
        info = fs.info(path)
    except FileNotFoundError:
        if not any(mark in path for mark in _GLOB):
            raise FileNotFoundError(f"no such file, folder or bucket: {uri}") from None
    else:
        return {path: info} if info["type"] == "file" else _files(fs, path, endings, roots)
    fixed = fixed_part(path)
    matches = _matches(fs, path, fixed, roots).items()
    visible = _check_links({name: info for name, info in matches if not _is_hidden(name.removeprefix(fixed))})
    files = {name: info for name, info in visible.items() if info["type"] == "file"}
    folders = (name for name, info in visible.items() if info["type"] != "file")
    return files | {name: info for folder in folders for name, info in _files(fs, folder, endings, roots).items()}


def fixed_part(pattern: str) -> str:
    """Return the folder before the first special character of a glob."""
    return pattern[: min(pattern.find(mark) for mark in _GLOB if mark in pattern)].rpartition("/")[0]


def _matches(fs: Any, pattern: str, fixed: str, roots: Iterable[str]) -> dict[str, Mapping[str, Any]]:
    """Return the files and folders that a glob matches. fixed: the folder before its first special character.

    fsspec's own glob is not used, because it skips folders that it cannot list.
    """
    if "**" in pattern:
        whole = re.compile(glob_translate(pattern))
        parts = ((name, info, accumulate(name.split("/"), "{}/{}".format)) for name, info in _walk(fs, fixed, roots))
        return _selected(((name, info, any(map(whole.match, folders))) for name, info, folders in parts))
    level: dict[str, Mapping[str, Any]] = {fixed: {"type": "directory"}}
    for part in pattern.removeprefix(fixed).strip("/").split("/"):
        folders = [name for name, info in level.items() if info["type"] == "directory"]
        level = {info["name"]: info for name in folders for info in _entries(fs, name, part)}
    return level


def _files(fs: Any, folder: str, endings: tuple[str, ...], roots: Iterable[str]) -> dict[str, Mapping[str, Any]]:
    """Return the files below a folder that have one of these endings and are not hidden."""
    visible = ((name, info) for name, info in _walk(fs, folder, roots) if not _is_hidden(name.removeprefix(folder)))
    marked = ((name, info, info["type"] != _LINKED_FOLDER and name.endswith(endings)) for name, info in visible)
    return _check_links(_selected(marked))


def _selected(marked: Iterable[tuple[str, Mapping[str, Any], bool]]) -> dict[str, Mapping[str, Any]]:
    """Return the entries that are marked as selected.

    Raises OSError for a linked folder that is not selected. Such a folder may hold further shards. It may also hold
    shards that are already listed, or lead back to one of its parents.
    """
    selected = {}
    for name, info, is_selected in marked:
        if is_selected:
            selected[name] = info
        elif info["type"] == _LINKED_FOLDER:
            advice = "add it to source.uri, or use a glob that matches it, or a glob without ** that leaves it out"
            raise OSError(f"{name} is a link to a folder: {advice}")
    return selected


def _check_links(files: dict[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return the entries. Raises FileNotFoundError if one is a broken link."""
    if broken := [name for name, info in files.items() if info["type"] == _BROKEN_LINK]:
        raise FileNotFoundError(f"{broken[0]} is a broken link: remove it, or restore its target")
    return files


def _walk(fs: Any, folder: str, roots: Iterable[str]) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """Return every file below a folder, and linked folders.

    On a disk, fsspec's own walk is not used, because it skips folders that it cannot list.
    """
    if isinstance(fs, LocalFileSystem):
        return _walk_disk(fs, folder, roots)
    infos: dict[str, Mapping[str, Any]] = fs.find(folder, detail=True)
    return infos.items()


def _walk_disk(fs: Any, folder: str, roots: Iterable[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for info in _entries(fs, folder, "*"):
        name = info["name"]
        if info["type"] != "directory":
            yield name, info
        elif not info["islink"]:
            yield from _walk_disk(fs, name, roots)
        elif not any(f"{root}/".startswith(f"{name}/") for root in roots):
            yield name, {**info, "type": _LINKED_FOLDER}


def _entries(fs: Any, folder: str, pattern: str) -> Iterator[Mapping[str, Any]]:
    """Yield the visible entries of a folder whose names match a pattern. The entry of a link is that of its target."""
    for info in fs.ls(folder, detail=True):
        name = info["name"].rstrip("/").rsplit("/", 1)[-1]
        if fnmatch.fnmatchcase(name, pattern) and not _is_hidden(name):
            yield _followed(fs, info) if info.get("islink") else info


def _followed(fs: Any, info: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        followed: Mapping[str, Any] = fs.info(info["name"])
    except OSError as error:  # only errors that prove a broken link are handled
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise
        return {**info, "type": _BROKEN_LINK}
    return followed


def _is_hidden(path: str) -> bool:
    """Return whether a part of a path below the source starts with "_" or ".", as markers and drafts do."""
    return any(part.startswith(("_", ".")) for part in path.split("/"))

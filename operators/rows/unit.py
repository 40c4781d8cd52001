"""A unit: which rows of which shard."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Unit:
    """Consecutive rows of one shard, read, computed and committed as one.

    row_groups: first and last + 1; skip: rows of the first row group that belong to earlier units;
    first_row: number of the unit's first row in the shard. error: why the shard is dead, or None.
    only_rows: the numbers of the rows that are wanted of it, ascending; None: all.
    """

    name: str
    uri: str
    version: str
    row_groups: tuple[int, int]
    skip: int
    first_row: int
    rows: int
    partitions: tuple[str | None, ...] = ()
    error: tuple[str, str] | None = None
    only_rows: tuple[int, ...] | None = None


def version(info: Mapping[str, Any]) -> str:
    """What tells one content of a path from another: its ETag where the store has one, else its size."""
    etag = info.get("ETag") or info.get("etag")
    return str(etag).strip('"') if etag else str(info["size"])

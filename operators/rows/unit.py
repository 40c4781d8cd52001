"""The unit, a range of rows of one shard."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Unit:
    """Consecutive rows of one shard that are read, computed and committed as a whole.

    row_groups: the first row group and the last one + 1. skip: the rows of the first row group that belong to earlier
    units. first_row: the number of the unit's first row in the shard. partitions: the values of the hive keys. error:
    the reason and the message if the shard is unreadable, else None. only_rows: the numbers of the rows to read,
    ascending. None means all.
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
    """Return the version of a file: its ETag if the store has one, else its size."""
    etag = info.get("ETag") or info.get("etag")
    return str(etag).strip('"') if etag else str(info["size"])

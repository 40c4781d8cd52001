"""Output of results: JSON or tables on the standard output, or a page in a file."""

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from distilray.pipeline.errors import JobError


def show(console: Console, arguments: argparse.Namespace, data: dict[str, Any], *tables: Table) -> None:
    """Print `data` as JSON if `--json` is set, else print the tables."""
    if arguments.json:
        print(json.dumps(data, indent=2))
        return
    for table in tables:
        console.print(table)


def write_page(console: Console, file: str, page: str) -> None:
    """Write a page to a local file. Raises JobError if the file cannot be written."""
    try:
        Path(file).write_text(page, encoding="utf-8")
    except OSError as error:
        raise JobError(f"cannot write {file}: {error.strerror}") from None
    console.print(f"wrote {file}, {len(page.encode()):,} bytes", markup=False, soft_wrap=True)

"""The example of docs/inputs.md that loads a finished output into a Delta table."""

import re
import subprocess
import sys
from pathlib import Path

import pyarrow.dataset as ds
import pytest
from deltalake import DeltaTable

from tests.support import read_output

PAGE = Path(__file__).resolve().parents[3] / "docs/inputs.md"


@pytest.mark.slow
def test_a_delta_table_takes_each_run_once(checkout: Path) -> None:
    program = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL).group(1)
    command = [sys.executable, "-c", program]
    several = [subprocess.Popen(command, cwd=checkout, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    errors = [process.communicate()[1] for process in several]
    assert any(process.returncode == 0 for process in several), errors
    subprocess.run(command, cwd=checkout, check=True)
    table = DeltaTable(str(checkout / "out/entities-delta"))
    rows = ds.dataset(table.file_uris()).to_table().sort_by([("shard", "ascending"), ("row", "ascending")])
    expected = read_output(checkout / "out/ner-yaml")
    assert rows.select(expected.column_names).to_pylist() == expected.to_pylist()
    (checkout / "out/ner-yaml/_SUCCESS").rename(checkout / "out/_SUCCESS")
    unfinished = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    (checkout / "out/_SUCCESS").rename(checkout / "out/ner-yaml/_SUCCESS")
    assert "_SUCCESS" in unfinished.stderr
    assert DeltaTable(table.table_uri).version() == table.version()

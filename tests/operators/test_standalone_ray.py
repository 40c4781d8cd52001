"""The operators in a plain script of Ray Data, as in docs/operators.md."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from distilray.operators import Predict, TokenClassification, Tokenize
from tests.operators import harness
from tests.support import random_texts, read_output

PAGE = Path(__file__).resolve().parents[2] / "docs/operators.md"

pytestmark = [pytest.mark.slow, pytest.mark.cluster]


@pytest.mark.chaos
def test_the_documented_script_gives_the_answers_of_a_job(checkout: Path) -> None:
    program = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL).group(1)
    environment = {**os.environ, "RAY_ADDRESS": "local"}  # otherwise it would join any running cluster
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=checkout, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    result = ds.dataset(checkout / "out/operators").to_table().sort_by("id")
    assert result["reason"].null_count == result.num_rows
    expected = read_output(checkout / "out/ner-yaml").sort_by("id")
    assert result["id"].to_pylist() == expected["id"].to_pylist()
    harness.assert_same_entities(result["entities"], expected["entities"])


def test_two_stages_of_actors_lose_no_row(checkpoint: Path, cluster: None) -> None:
    import ray

    task = TokenClassification(model=str(checkpoint))
    texts = [None if i % 50 == 7 else text for i, text in enumerate(random_texts(400, seed=1, words=(1, 12)))]
    tables = [pa.table({"id": range(i, i + 50), "body": texts[i : i + 50]}) for i in range(0, 400, 50)]
    tables.append(pa.table({"id": [400], "body": pa.nulls(1, pa.string())}))
    options = {"batch_format": "pyarrow", "compute": ray.data.ActorPoolStrategy(size=2), "num_cpus": 0.2}
    answers = (
        ray.data.from_arrow(tables)
        .map_batches(Tokenize, fn_constructor_args=[[task], "body"], batch_size=33, **options)
        .map_batches(Predict, fn_constructor_args=[[task], "float32"], batch_size=71, **options)
    )
    result = pa.concat_tables(answers.iter_batches(batch_size=None, batch_format="pyarrow")).sort_by("id")
    assert result["id"].to_pylist() == list(range(401))
    assert result["reason"].to_pylist() == ["null_text" if text is None else None for text in [*texts, None]]
    valid_texts = [text for text in texts if text is not None]
    answered = result.filter(pa.compute.is_null(result["reason"]))
    harness.assert_same_entities(answered["entities"], harness.answers(task, valid_texts)["entities"])


def test_another_batch_format_is_an_error_with_advice(checkpoint: Path, cluster: None) -> None:
    import ray

    task = TokenClassification(model=str(checkpoint))
    rows = ray.data.from_items([{"text": "John"}]).map_batches(
        Tokenize, fn_constructor_args=[[task]], batch_format="pandas", concurrency=1, num_cpus=0.2
    )
    with pytest.raises(Exception, match='call map_batches with batch_format="pyarrow"'):
        rows.take_all()

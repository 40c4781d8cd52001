"""The published JSON schema: it accepts the same jobs as the parser."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from distilray.pipeline import JobError
from distilray.pipeline.cli.main import main
from distilray.pipeline.job.job import parse_job
from tests.test_docs import ROOT, blocks

PUBLISHED = json.loads((ROOT / "docs/job.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(PUBLISHED)
EXAMPLES = sorted((ROOT / "examples/jobs").glob("*.yaml"))
JOBS = [yaml.safe_load(block) for _, block in blocks("yaml")] + [yaml.safe_load(path.read_text()) for path in EXAMPLES]
FREE = {"storage_options", "thresholds"}  # these accept any keys


def test_the_command_prints_the_published_schema(capsys: pytest.CaptureFixture[str]) -> None:
    """To update the file, run `distilray schema > docs/job.schema.json`."""
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == PUBLISHED
    jsonschema.Draft202012Validator.check_schema(PUBLISHED)


def test_every_documented_job_fits_the_schema() -> None:
    assert len(JOBS) > 3
    for job in JOBS:
        VALIDATOR.validate(job)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_link_to_the_schema(path: Path) -> None:
    (line,) = [line for line in path.read_text().splitlines() if line.startswith("# yaml-language-server: $schema=")]
    assert (path.parent / line.partition("=")[2]).resolve() == ROOT / "docs/job.schema.json"


def objects(value: Any, key: str = "") -> Iterator[dict[str, Any]]:
    """Yield every object of a job whose keys are fixed."""
    if isinstance(value, dict) and key not in FREE:
        yield value
        for name, each in value.items():
            yield from objects(each, name)
    for each in value if isinstance(value, list) else ():
        yield from objects(each)


def test_an_unknown_key_is_an_error_in_every_object() -> None:
    count = 0
    for job in JOBS:
        for number in range(len(list(objects(job)))):
            wrong = copy.deepcopy(job)
            list(objects(wrong))[number]["unknown"] = 1
            assert not VALIDATOR.is_valid(wrong)
            with pytest.raises(JobError, match="unknown: unknown key"):
                parse_job(wrong, "job")
            count += 1
    assert count > 20


@pytest.mark.parametrize(
    ("change", "fits"),
    [
        ({"max_dead": 100}, True),
        ({"max_dead": "0.1%"}, True),
        ({"max_dead": "many"}, False),
        ({"max_dead": -1}, False),
        ({"compute": {"parity": {"max_label_flips": "0.1%"}}}, True),
        ({"compute": {"parity": {"max_label_flips": 2}}}, False),
        ({"compute": {"engine": "spark"}}, False),
        ({"compute": {"tokens_per_pack": 100}}, False),
        ({"source": {"uri": []}}, False),
        ({"sink": {}}, False),
        ({"tasks": []}, False),
        ({"tasks": [{"model": "m"}]}, False),
        ({"tasks": [{"task": "translation", "model": "m"}]}, False),
        ({"tasks": [{"task": "embeddings", "model": "m", "name": "a column"}]}, False),
        ({"tasks": [{"task": "embeddings", "model": "m", "gold": "label"}]}, False),
    ],
)
def test_schema_and_parser_agree(change: dict[str, Any], fits: bool) -> None:
    job = {"source": {"uri": "x"}, "tasks": [{"task": "embeddings", "model": "m"}], "sink": {"uri": "y"}, **change}
    assert VALIDATOR.is_valid(job) == fits
    if fits:
        parse_job(job, "job")
    else:
        with pytest.raises(JobError):
            parse_job(job, "job")

"""Some cases of the fuzzer, and tests of its runner. `python -m tests.fuzz --count 100000` runs more cases."""

from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pytest

from distilray.model.errors import CheckpointError
from tests.fuzz.__main__ import fuzz
from tests.fuzz.runner import cases, run_case
from tests.fuzz.seed_files import write_seed_files


@pytest.fixture(scope="module")
def seed_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_seed_files(tmp_path_factory.mktemp("seed_files"))


def test_a_hundred_cases_end_as_documented(seed_files: Path) -> None:
    assert fuzz(seed_files, 100, seed=1, jobs=1) == []


@pytest.mark.slow
def test_some_thousand_cases_end_as_documented(seed_files: Path) -> None:
    assert fuzz(seed_files, 5000, seed=2, jobs=2) == []


def refused(_: Random) -> None:
    raise CheckpointError("expected this, got that")


def unexpected(_: Random) -> None:
    raise KeyError("weight_map")


def hidden_memory(_: Random) -> None:
    raise CheckpointError("not a whole file (MemoryError: )")


def hungry(_: Random) -> None:
    np.ones(2**26)


@pytest.mark.parametrize(
    ("case", "kind"),
    [
        (refused, "refused"),
        (unexpected, "defect"),
        (hidden_memory, "defect"),
        (hungry, "defect"),
        (lambda _: None, "good"),
    ],
)
def test_the_runner_detects_defects(case: Callable[[Random], None], kind: str) -> None:
    assert run_case(case, Random(0))[0] == kind


def test_the_runner_records_a_crash_and_continues(seed_files: Path) -> None:
    results = list(cases("dies", 0, range(20), seed_files))
    defects = [defect for _, wrong in results for defect in wrong]
    assert [defect.problem for defect in defects] == ["ended the process: SIGABRT"] * len(defects)
    assert 0 < len(defects) < 20
    assert len({defect.case for defect in defects}) + sum(counts["good"] for counts, _ in results) == 20

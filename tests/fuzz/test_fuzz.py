"""Some cases of the fuzzer, and that it sees what it looks for; `python -m tests.fuzz --count 100000` runs more."""

from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pytest

from distilray.model.errors import CheckpointError
from tests.fuzz.__main__ import fuzz
from tests.fuzz.material import make_material
from tests.fuzz.runner import cases, run_case


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_material(tmp_path_factory.mktemp("material"))


def test_a_hundred_cases_end_as_documented(material: Path) -> None:
    assert fuzz(material, 100, seed=1, jobs=1) == []


@pytest.mark.slow
def test_some_thousand_cases_end_as_documented(material: Path) -> None:
    assert fuzz(material, 5000, seed=2, jobs=2) == []


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
def test_the_runner_tells_what_is_a_defect(case: Callable[[Random], None], kind: str) -> None:
    assert run_case(case, Random(0))[0] == kind


def test_a_case_that_ends_its_process_is_recorded_and_the_others_go_on(material: Path) -> None:
    found = list(cases("dies", 0, range(20), material))
    defects = [defect for _, wrong in found for defect in wrong]
    assert [defect.problem for defect in defects] == ["ended the process: SIGABRT"] * len(defects)
    assert 0 < len(defects) < 20
    assert len({defect.case for defect in defects}) + sum(counts["good"] for counts, _ in found) == 20

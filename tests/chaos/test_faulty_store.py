"""A job whose store fails one request in five, in every way there is, ends right."""

from collections.abc import Iterator

import pytest

from tests.chaos.stage import PATIENCE, Stage, stage
from tests.proxy import ANY, Rule

pytestmark = [pytest.mark.s3, pytest.mark.chaos]

STALL = 20.0  # seconds: longer than the job's clients wait


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("faulty")) as here:
        yield here


@pytest.mark.parametrize("engine", ["local", pytest.param("ray", marks=pytest.mark.cluster)])
def test_one_request_in_five_fails(here: Stage, engine: str) -> None:
    kinds = [kind for kind in ANY if kind != "delay"]
    here.proxy.rules(Rule(kinds, rate=0.2, seconds=STALL))
    before = here.proxy.counts()
    driver = here.start(engine, engine, {"RAY_ADDRESS": "local"})
    driver.join(PATIENCE)
    here.proxy.rules()
    assert driver.exitcode == 0, here.log(engine).read_text()[-3000:]
    assert here.judge(engine) == {}
    after = here.proxy.counts()
    harmed = {kind: after.get(kind, 0) - before.get(kind, 0) for kind in kinds}
    assert sum(harmed.values()) > 0.1 * (after["requests"] - before["requests"])

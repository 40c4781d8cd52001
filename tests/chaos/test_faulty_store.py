"""A job is correct although one request in five to its store fails, with every kind of fault."""

from collections.abc import Iterator

import pytest

from tests.chaos.job_on_s3 import TIMEOUT, JobOnS3, job_on_s3
from tests.proxy import ANY, Rule

pytestmark = [pytest.mark.s3, pytest.mark.chaos]

STALL = 20.0  # seconds; the clients of the job have shorter timeouts


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobOnS3]:
    with job_on_s3(tmp_path_factory.mktemp("faulty")) as job:
        yield job


@pytest.mark.parametrize("engine", ["local", pytest.param("ray", marks=pytest.mark.cluster)])
def test_a_run_survives_one_failed_request_in_five(job: JobOnS3, engine: str) -> None:
    kinds = [kind for kind in ANY if kind != "delay"]
    job.proxy.rules(Rule(kinds, rate=0.2, seconds=STALL))
    before = job.proxy.counts()
    driver = job.start(engine, engine, {"RAY_ADDRESS": "local"})
    driver.join(TIMEOUT)
    job.proxy.rules()
    assert driver.exitcode == 0, job.log(engine).read_text()[-3000:]
    assert job.differences(engine) == {}
    after = job.proxy.counts()
    faults = {kind: after.get(kind, 0) - before.get(kind, 0) for kind in kinds}
    assert sum(faults.values()) > 0.1 * (after["requests"] - before["requests"])

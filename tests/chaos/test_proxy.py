"""The fault proxy applies its rules and forwards all other requests."""

import threading
from collections.abc import Iterator

import pytest
import s3fs

from tests.proxy import ANY, BEFORE, IN_BODY, Proxy, Rule, fault_proxy
from tests.s3 import S3Server, s3_server

pytestmark = [pytest.mark.s3, pytest.mark.slow]

DATA = bytes(range(256)) * 4000
PATH = "things/a name+with=\u00fc.bin"


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with s3_server(tmp_path_factory.mktemp("s3") / "data") as server, fault_proxy(server.endpoint) as proxy:
        s3fs.S3FileSystem(**server.storage_options).mkdir("things")
        yield proxy


@pytest.fixture
def fs(proxy: Proxy) -> s3fs.S3FileSystem:
    """A client without retries."""
    proxy.rules()
    one_attempt = {"retries": {"total_max_attempts": 1}, "read_timeout": 1}
    fs = s3fs.S3FileSystem(
        **S3Server(proxy.endpoint).storage_options, config_kwargs=one_attempt, use_listings_cache=False
    )
    fs.retries = 1
    fs.pipe_file(PATH, DATA)
    return fs


def test_the_proxy_forwards_requests_without_rules(fs: s3fs.S3FileSystem) -> None:
    assert fs.cat_file(PATH) == DATA
    assert fs.cat_file(PATH, start=1000, end=3000) == DATA[1000:3000]
    assert fs.ls("things", detail=False) == [PATH]
    assert fs.info(PATH)["size"] == len(DATA)


@pytest.mark.parametrize("kind", [kind for kind in ANY if kind != "delay"])
def test_a_fault_fails_a_read(fs: s3fs.S3FileSystem, proxy: Proxy, kind: str) -> None:
    proxy.rules(Rule([kind], method="GET", path="/things/", seconds=3))
    with pytest.raises(Exception):  # noqa: B017, PT011 (each fault has its own error)
        fs.cat_file(PATH)
    assert proxy.faults()[-1][:2] == (kind, "GET")


def test_a_truncated_range_raises_no_error(fs: s3fs.S3FileSystem, proxy: Proxy) -> None:
    proxy.rules(Rule(["truncated"]))
    assert fs.cat_file(PATH, start=1000, end=3000) == DATA[1000:2000]


@pytest.mark.parametrize("kind", [kind for kind in ANY if kind not in (*IN_BODY, "delay")])
def test_a_fault_fails_a_write_before_or_after_the_server_stores_it(
    fs: s3fs.S3FileSystem, proxy: Proxy, kind: str
) -> None:
    proxy.rules(Rule([kind], method="PUT", seconds=3))
    with pytest.raises(Exception):  # noqa: B017, PT011
        fs.pipe_file(f"{PATH}.{kind}", DATA)
    proxy.rules()
    assert fs.exists(f"{PATH}.{kind}") == (kind not in BEFORE)


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_proxy_holds_a_write(fs: s3fs.S3FileSystem, proxy: Proxy, when: str) -> None:
    name = f"things/held-{when}"
    proxy.rules(Rule([f"hold_{when}"], method="PUT", path="held", times=1))
    writer = threading.Thread(target=fs.pipe_file, args=(name, DATA))
    writer.start()
    assert proxy.wait_held() == f"PUT /{name}"
    assert proxy.writes().get(f"/{name}", 0) == (when == "after")
    proxy.release(go=True)
    writer.join()
    assert fs.cat_file(name) == DATA


def test_a_rule_skips_requests_and_has_a_limit(fs: s3fs.S3FileSystem, proxy: Proxy) -> None:
    proxy.rules(Rule(["error"], method="GET", skip=1, times=1))
    assert fs.cat_file(PATH) == DATA
    with pytest.raises(OSError, match="internal error"):
        fs.cat_file(PATH)
    assert fs.cat_file(PATH) == DATA

"""The fault proxy does what it is told, and otherwise nothing."""

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
    """A client that tries once."""
    proxy.rules()
    tries = {"retries": {"total_max_attempts": 1}, "read_timeout": 1}
    fs = s3fs.S3FileSystem(**S3Server(proxy.endpoint).storage_options, config_kwargs=tries, use_listings_cache=False)
    fs.retries = 1
    fs.pipe_file(PATH, DATA)
    return fs


def test_everything_goes_through(fs: s3fs.S3FileSystem) -> None:
    assert fs.cat_file(PATH) == DATA
    assert fs.cat_file(PATH, start=1000, end=3000) == DATA[1000:3000]
    assert fs.ls("things", detail=False) == [PATH]
    assert fs.info(PATH)["size"] == len(DATA)


@pytest.mark.parametrize("kind", [kind for kind in ANY if kind != "delay"])
def test_a_read_fails(fs: s3fs.S3FileSystem, proxy: Proxy, kind: str) -> None:
    proxy.rules(Rule([kind], method="GET", path="/things/", seconds=3))
    with pytest.raises(Exception):  # noqa: B017, PT011 (each in its own way)
        fs.cat_file(PATH)
    assert proxy.harmed()[-1][:2] == (kind, "GET")


def test_a_short_range_says_nothing_of_itself(fs: s3fs.S3FileSystem, proxy: Proxy) -> None:
    proxy.rules(Rule(["truncated"]))
    assert fs.cat_file(PATH, start=1000, end=3000) == DATA[1000:2000]


@pytest.mark.parametrize("kind", [kind for kind in ANY if kind not in (*IN_BODY, "delay")])
def test_a_put_fails_before_or_after_it_is_done(fs: s3fs.S3FileSystem, proxy: Proxy, kind: str) -> None:
    proxy.rules(Rule([kind], method="PUT", seconds=3))
    with pytest.raises(Exception):  # noqa: B017, PT011
        fs.pipe_file(f"{PATH}.{kind}", DATA)
    proxy.rules()
    assert fs.exists(f"{PATH}.{kind}") == (kind not in BEFORE)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_put_is_held(fs: s3fs.S3FileSystem, proxy: Proxy, when: str) -> None:
    name = f"things/held-{when}"
    proxy.rules(Rule([f"hold_{when}"], method="PUT", path="held", times=1))
    putting = threading.Thread(target=fs.pipe_file, args=(name, DATA))
    putting.start()
    assert proxy.wait_held() == f"PUT /{name}"
    assert proxy.puts().get(f"/{name}", 0) == (when == "after")
    proxy.release(go=True)
    putting.join()
    assert fs.cat_file(name) == DATA


def test_a_rule_counts(fs: s3fs.S3FileSystem, proxy: Proxy) -> None:
    proxy.rules(Rule(["error"], method="GET", skip=1, times=1))
    assert fs.cat_file(PATH) == DATA
    with pytest.raises(OSError, match="internal error"):
        fs.cat_file(PATH)
    assert fs.cat_file(PATH) == DATA

"""An S3 server (SeaweedFS) on the loopback address, as a process of this machine."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

KEY, SECRET = "distilray-key", "distilray-secret"


@dataclass(frozen=True)
class S3Server:
    """The address of a server and the settings of its clients."""

    endpoint: str

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables of botocore, which s3fs reads."""
        return {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    @property
    def storage_options(self) -> dict[str, str]:
        """The same settings as arguments of s3fs."""
        return {"endpoint_url": self.endpoint, "key": KEY, "secret": SECRET}


@dataclass(frozen=True)
class S3Process(S3Server):
    """A server that a test can kill and start again, with the same address and data."""

    folder: Path
    ports: Sequence[int]
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> None:
        """Start the server and wait until it answers. Raises RuntimeError with its log if it does not."""
        names = ("s3.port", "master.port", "volume.port", "filer.port")
        listen = [f"-{name}={port}" for name, port in zip(names, self.ports, strict=True)]
        off = ["-admin.ui=false", "-webdav=false", "-s3.port.iceberg=0", "-master.telemetry=false"]
        location = [f"-dir={self.folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
        command = [_weed(), "-logtostderr=true", "mini", *location, *listen, *off]
        environment = {**os.environ, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
        log = self.folder.parent / "weed.log"
        with log.open("ab") as sink:
            process = subprocess.Popen(command, stdout=sink, stderr=sink, env=environment)
        self.running.append(process)
        _wait_for(self.endpoint, process, log)

    def kill(self) -> None:
        """Send SIGKILL to the server."""
        for process in self.running:
            process.kill()
            process.wait()
        self.running.clear()


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Process]:
    """Run a server during the block. folder: the folder of its data."""
    folder.mkdir(parents=True, exist_ok=True)
    ports = _free_ports(4)
    server = S3Process(f"http://127.0.0.1:{ports[0]}", folder, ports)
    try:
        server.start()
        yield server
    finally:
        server.kill()


def _weed() -> str:
    return str(Path(sys.executable).parent / "weed")


def _free_ports(count: int) -> list[int]:
    # each server also listens on its port + 10000 (gRPC); both must be below the range of ephemeral ports
    ports: list[int] = []
    for port in range(8400 + os.getpid() % 1000, 20000):
        if all(_is_free(p) for p in (port, port + 10000)):
            ports.append(port)
        if len(ports) == count:
            return ports
    raise RuntimeError("no free ports")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _wait_for(endpoint: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        if process.poll() is not None:
            break
        try:
            urllib.request.urlopen(endpoint, timeout=1)
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"the S3 server did not start:\n{log.read_text()[-3000:]}")

"""A Ray head with a dashboard, as a process of this machine."""

import os
import subprocess
import sysconfig
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.clusters import free_port


@contextmanager
def head(python: Path, folder: Path, cwd: Path, token: str | None = None) -> Iterator[dict[str, str]]:
    """Run a Ray head. Yields the environment for `distilray submit`.

    python: the interpreter that `python` means on the head. token: a token that the head requires, or None.
    """
    path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**_without_path(), "PATH": path, "RAY_AUTH_MODE": "disabled"}
    if token:
        del environment["RAY_AUTH_MODE"]
        environment["HOME"] = str(folder)
        (folder / ".ray").mkdir()
        (folder / ".ray/auth_token").write_text(token)
    port = free_port()
    options = ["--head", "--block", "--port", str(free_port()), "--num-cpus=2", f"--dashboard-port={port}"]
    options += [f"--dashboard-agent-listen-port={free_port()}", "--object-store-memory=200000000"]
    command = [str(python), "-m", "ray.scripts.scripts", "start", *options]
    with (folder / "head.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=cwd, env=environment, stdout=log, stderr=log)
        try:
            yield {**environment, "RAY_ADDRESS": f"http://127.0.0.1:{port}"}
        finally:
            process.terminate()
            process.wait(60)


def _without_path() -> dict[str, str]:
    """Return the environment without PYTHONPATH: the head must not import from the path of the tests."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def make_bare_python(folder: Path) -> Path:
    """Make a Python that can import every dependency, but not distilray."""
    venv.create(folder / "bare", symlinks=True)
    target = next((folder / "bare/lib").glob("python*/site-packages"))
    # this line makes the packages importable; Python does not read the .pth files of that folder (editable installs)
    (target / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = folder / "bare/bin/python"
    missing = subprocess.run(
        [python, "-c", "import distilray"], cwd=folder, env=_without_path(), capture_output=True, check=False
    )
    assert b"No module named 'distilray'" in missing.stderr
    return python

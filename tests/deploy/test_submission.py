"""Submissions: the code and the job that are sent to a cluster, and the secrets that are not."""

import io
import shlex
import socket
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from distilray.deploy.errors import SubmitError, UnreachableError
from distilray.deploy.jobs_api import Cluster, RayJob
from distilray.deploy.package import code_package, make_package
from distilray.deploy.result import read_result, result_line
from distilray.deploy.submission import prepare
from distilray.pipeline.cli.main import main
from distilray.pipeline.commands.submit import job_data
from distilray.pipeline.job.job import load_job, parse_sink

ROOT = Path(__file__).resolve().parents[2]


def job(**sink: Any) -> dict[str, Any]:
    return {
        "source": {"uri": "s3://lake/day=7/"},
        "tasks": [{"task": "token-classification", "model": "s3://models/ner/"}],
        "sink": {"uri": "s3://lake/Answers day=7/", **sink},
    }


def test_the_id_depends_on_job_and_code(monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepare(job())
    assert first.id.startswith("distilray-answers-day-7-")
    assert prepare(job()).id == first.id
    assert prepare(job() | {"max_dead": 1}).id != first.id
    assert prepare(job(), "verify").id != first.id
    assert prepare(job(), submission_id="mine").id == "mine"
    monkeypatch.setattr(
        "distilray.deploy.submission.code_package", lambda: make_package({"distilray/x.py": b"changed"})
    )
    assert prepare(job()).id != first.id


def test_the_code_is_the_whole_package_and_nothing_else() -> None:
    names = set(zipfile.ZipFile(io.BytesIO(code_package().data)).namelist())
    folders = ("model", "operators", "pipeline", "deploy")
    modules = {f"distilray/{path.relative_to(ROOT)}" for folder in folders for path in (ROOT / folder).rglob("*.py")}
    assert modules | {"distilray/__init__.py", "distilray/__main__.py"} <= names
    assert not [name for name in names if "__pycache__" in name or "tests" in name]
    assert make_package({"a": b"1", "b": b""}) == make_package({"b": b"", "a": b"1"})
    assert (
        len({make_package(files).name for files in ({"a": b"1"}, {"a": b"2"}, {"b": b"1"}, {"a": b"", "1": b""})}) == 4
    )


def test_other_files_beside_the_code_are_not_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = ("a.py", "page/b.j2", "page/c.css")
    for name in (*kept, "model.safetensors", "account.json", "a.py~", ".hidden.py", "__pycache__/a.pyc"):
        (tmp_path / "model" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "model" / name).write_text("x")
    monkeypatch.setattr("distilray.deploy.package._folder", lambda name: tmp_path / name)
    names = zipfile.ZipFile(io.BytesIO(code_package().data)).namelist()
    assert set(names) == {
        "distilray/__init__.py",
        "distilray/__main__.py",
        "distilray/lazy.py",
        *(f"distilray/model/{name}" for name in kept),
    }


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({"key": "AKIA", "secret": "hidden"}, "key"),
        ({"client_kwargs": {"aws_session_token": "hidden"}}, "aws_session_token"),
        ({"connection_string": "hidden"}, "connection_string"),
        ({"accountKey": "hidden"}, "accountKey"),
        ({"token": "/secrets/hidden.json"}, "token"),
        ({"endpoint_url": "https://me:hidden@store/"}, "endpoint_url"),
        ({"client_kwargs": {"headers": {"Authorization": "Bearer hidden"}}}, "Authorization"),
        ({"client_kwargs": {"proxies": {"https": "me:hidden@proxy:1"}}}, "https"),
        ({"secret": {"value": "hidden"}}, "value"),
        ({"auth": ["me", "hidden"]}, "auth.0"),
        ({"passphrase": "hidden"}, "passphrase"),
    ],
)
def test_secrets_are_not_sent(options: dict[str, Any], place: str) -> None:
    with pytest.raises(SubmitError, match=f"{place} (is a secret|has a password)") as refused:
        prepare(job(storage_options=options))
    assert "hidden" not in str(refused.value)


def test_the_sent_job_is_the_checked_job() -> None:
    text = yaml.safe_dump(job())
    noted = prepare(f"{text}# storage_options: {{secret: hidden}}\n")
    assert noted.id == prepare(text).id == prepare(job()).id
    assert b"hidden" not in noted.job.data
    assert b"hidden" not in zipfile.ZipFile(io.BytesIO(noted.job.data)).read("job.yaml")
    with pytest.raises(SubmitError, match="a key occurs twice"):
        prepare(f"sink: {{uri: s3://lake/x/, storage_options: {{secret: hidden}}}}\n{text}")
    with pytest.raises(SubmitError, match="secret is a secret"):
        prepare({**job(), "storage_options": {"secret": "hidden"}})
    with pytest.raises(SubmitError, match="not plain data") as refused:
        prepare({**job(), "max_dead": timedelta(1)})
    assert "timedelta" not in str(refused.value)


def test_options_without_secrets_are_sent() -> None:
    options = {
        "endpoint_url": "http://store:8333",
        "anon": True,
        "token": "anon",
        "client_kwargs": {"region_name": "x"},
    }
    sent = prepare(job(storage_options=options))
    text = zipfile.ZipFile(io.BytesIO(sent.job.data)).read("job.yaml")
    assert yaml.safe_load(text) == job(storage_options=options)
    command = shlex.split(prepare(job(storage_options=options), "verify").entrypoint)
    assert command[3:5] == ["verify", "s3://lake/Answers day=7/"]
    assert parse_sink(command[4], [command[5].removeprefix("--set=")]).storage_options == options


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({**job(), "source": {"uri": ["s3://a/", "corpus"]}}, "'corpus': expected a URI or an absolute path"),
        ({"source": {"uri": "/x"}, "sink": {"uri": "/y"}}, "expected source.uri, tasks with a model each"),
        ("- a\n- b", "expected a mapping with the keys source, tasks, sink, compute; got list"),
        ("a: [hidden", "the job is not valid YAML: line 1"),
    ],
)
def test_a_job_that_no_cluster_can_run_is_an_error(raw: Any, message: str) -> None:
    with pytest.raises(SubmitError) as refused:
        prepare(raw)
    assert message in str(refused.value)
    assert "hidden" not in str(refused.value)


def test_a_job_from_the_command_line_is_sent_with_absolute_paths(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Relative paths refer to the folder from which the job is submitted."""
    monkeypatch.chdir(ROOT)
    submitted = load_job("examples/jobs/ner.yaml", ["sink.storage_options.auto_mkdir=true"])
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job_data(submitted)))
    monkeypatch.chdir(tmp_path)
    again = load_job("job.yaml")
    assert again == submitted
    assert again.sink.storage_options == {"auto_mkdir": True}
    assert again.sink.uri == str(ROOT / "out/ner-yaml")


@pytest.mark.parametrize(
    ("ray_job", "code"),
    [
        (RayJob("x", "SUCCEEDED", driver_exit_code=0), 0),
        (RayJob("x", "FAILED", driver_exit_code=2), 2),
        (RayJob("x", "FAILED", driver_exit_code=-9), 137),
        (RayJob("x", "FAILED"), 1),
        (RayJob("x", "STOPPED", driver_exit_code=-15), 130),
    ],
)
def test_exit_codes_follow_those_of_a_shell(ray_job: RayJob, code: int) -> None:
    assert ray_job.exit_code == code


@pytest.mark.parametrize(
    "address", ["head:8265", "ray://head:10001", "https://user:hidden@head", "user:hidden@head:8265", "http://"]
)
def test_an_address_must_be_that_of_a_dashboard(address: str) -> None:
    with pytest.raises(SubmitError) as refused:
        Cluster(address)
    assert "hidden" not in str(refused.value)
    assert "hidden" not in repr(Cluster("https://head:8265/", token="hidden"))


def test_an_unreachable_cluster_is_an_error(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    with pytest.raises(UnreachableError, match="http://127.0.0.1:9 does not answer GET"):
        Cluster("http://127.0.0.1:9", patience=0).jobs()
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert main(["status", "x"]) == 2
    assert "--address http://HEAD:8265" in capsys.readouterr().err


@pytest.fixture
def refusing_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[str | None]]]:
    """A server that refuses every request: its address, and the tokens of the requests."""
    tokens = []

    class RefuseAll(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            tokens.append(self.headers["Authorization"])
            self.send_error(401)

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    with HTTPServer(("127.0.0.1", 0), RefuseAll) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", tokens
        server.shutdown()


def test_the_token_is_read_from_the_places_that_ray_uses(
    refusing_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    address, tokens = refusing_server
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["status", "x", "--address", address]) == 2
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray/auth_token").write_text("made\n")
    assert main(["status", "x", "--address", address]) == 2
    (tmp_path / "mine").write_text("given\n")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "mine"))
    assert main(["status", "x", "--address", address]) == 2
    monkeypatch.setenv("RAY_AUTH_TOKEN", "said\n")
    assert main(["status", "x", "--address", address]) == 2
    assert tokens == [None, "Bearer made", "Bearer given", "Bearer said"]
    error = capsys.readouterr().err
    assert "it requires a token (set RAY_AUTH_TOKEN" in error
    assert not [token for token in ("made", "given", "said\n") if token in error]


@pytest.mark.parametrize("token", ["", "hidden\nhidden", "hidden token", "hidden\u00e9"])
def test_an_invalid_token_is_an_error_that_does_not_show_it(token: str) -> None:
    with pytest.raises(SubmitError, match="the token is empty or has characters") as refused:
        Cluster("http://head:8265", token=token)
    assert "hidden" not in str(refused.value)


def test_a_connection_that_breaks_during_the_tls_handshake_is_retried() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def close() -> None:
            with suppress(OSError):
                while True:
                    listener.accept()[0].close()

        threading.Thread(target=close, daemon=True).start()
        with pytest.raises(UnreachableError):
            Cluster(f"https://127.0.0.1:{listener.getsockname()[1]}", patience=1).jobs()
        listener.shutdown(socket.SHUT_RDWR)


def test_a_result_is_read_from_the_log() -> None:
    figures = {"rows": 7, "labels": {"entities": {"P\u00c9R\n": 2}}}
    assert read_result(result_line(figures)) == figures
    assert "\n" not in result_line(figures)
    assert read_result("distilray-result: of another kind") is None
    assert read_result("something") is None


def test_an_error_names_a_missing_dependency_and_what_to_do() -> None:
    code = "import runpy, sys; sys.modules['torch'] = None; runpy.run_module('distilray', run_name='__main__')"
    command = [sys.executable, "-c", code, "run", str(ROOT / "examples/jobs/ner.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(
        f"distilray: {sys.executable} has no torch: run distilray with a Python that has its dependencies"
    )


def test_deploy_imports_only_an_http_client() -> None:
    """An Airflow worker has none of these packages."""
    heavy = ("ray", "torch", "pyarrow", "pydantic", "numpy", "fsspec", "tokenizers", "rich", "airflow")
    modules = ("follow", "jobs_api", "package", "submission", "result")
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.modules.update(dict.fromkeys({heavy})); "
    code += "; ".join(f"import distilray.deploy.{module}" for module in modules)
    code += "; print(len(distilray.deploy.package.code_package().data))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 50_000

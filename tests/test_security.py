"""No code of strangers runs, and no secret of a job shows anywhere but in the requests to its store."""

import ast
import json
import logging
import os
import pickle
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import h5py
import numpy as np
import pytest
import yaml
from hypothesis import assume, example, given
from hypothesis import strategies as st

from distilray.model.checkpoint.checkpoint import Checkpoint
from distilray.model.checkpoint.formats.load import load_tensors
from distilray.model.checkpoint.weights import read_weights
from distilray.model.errors import CheckpointError
from distilray.model.storage.redact import redacted
from distilray.pipeline import JobError, load_job
from distilray.pipeline.cli.main import main
from distilray.pipeline.job.job import parse_job
from distilray.pipeline.job.job_file import read_job_file
from tests.support import edit_config, make_checkpoint, write_shard

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("distilray", "model", "operators", "pipeline")
FORBIDDEN = {"eval", "exec", "compile", "__import__", "loads_pickle"}
MODULES = {"pickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}

# nothing of our own code runs what it is given


def calls() -> list[tuple[str, ast.Call]]:
    """Every call in the package's sources, with its place."""
    files = sorted(file for folder in PACKAGES for file in (ROOT / folder).rglob("*.py"))
    assert len(files) > 80
    trees = [(file, ast.parse(file.read_text(encoding="utf-8"))) for file in files]
    return [
        (f"{file.relative_to(ROOT)}:{node.lineno}", node)
        for file, tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
    ]


def test_no_source_evaluates_or_unpickles() -> None:
    for where, call in calls():
        said = ast.unparse(call.func)
        assert said not in FORBIDDEN, where
        assert said.split(".")[0] not in MODULES, where
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert "trust_remote_code" not in keywords, where
        assert "allow_pickle" not in keywords, where
        assert keywords.get("shell", "False") == "False", where
        assert said not in {"os.system", "os.popen", "yaml.unsafe_load", "yaml.full_load"}, where
        if said == "torch.load":
            assert keywords["weights_only"] == "True", where
        if said == "yaml.load":
            assert [ast.unparse(argument) for argument in call.args[1:]] == ["_Loader"], where
    from distilray.model.storage.safe_yaml import _Loader

    assert issubclass(_Loader, yaml.SafeLoader)


# hostile checkpoints do nothing


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.file,)


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_pickle_is_refused_and_named(tmp_path: Path, legacy: bool) -> None:
    import torch

    trap = tmp_path / "trapped"
    torch.save(
        {"a": Trap(trap)},
        tmp_path / "pytorch_model.bin",
        _use_new_zipfile_serialization=not legacy,
    )
    with pytest.raises(CheckpointError, match="more than tensors: unpickling it would run"):
        load_tensors(Checkpoint(str(tmp_path)))
    assert not trap.exists()
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(trap)))
    with pytest.raises(CheckpointError):
        load_tensors(Checkpoint(str(tmp_path)))
    assert not trap.exists()
    pickle.loads((tmp_path / "pytorch_model.bin").read_bytes())
    assert trap.exists()  # it was a trap


def test_layers_with_code_in_an_h5_file_are_not_looked_at(tmp_path: Path) -> None:
    code = {"class_name": "Lambda", "config": {"function": ["4wEAAAAAAAAA", None, None]}}
    with h5py.File(tmp_path / "tf_model.h5", "w") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": [code]})
        file["distilbert/embeddings/word_embeddings/weight:0"] = np.zeros((2, 2), np.float32)
    assert len(load_tensors(Checkpoint(str(tmp_path)))[1]) == 1


def test_code_beside_a_config_is_not_imported(tmp_path: Path) -> None:
    make_checkpoint(tmp_path)
    (tmp_path / "modeling_evil.py").write_text(f"open({str(tmp_path / 'trapped')!r}, 'w')\nclass Evil: pass\n")
    auto = {"AutoConfig": "modeling_evil.Evil", "AutoModelForTokenClassification": "modeling_evil.Evil"}
    edit_config(tmp_path, auto_map=auto, trust_remote_code=True, custom_pipelines={"x": {"impl": "modeling_evil.Evil"}})
    assert read_weights(Checkpoint(str(tmp_path))).config.n_layers == 2
    assert not (tmp_path / "trapped").exists()


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.system [touch trapped]",
        "!!python/name:os.system ''",
        "!!pairs [k: v]",
        "!!omap [k: v]",
    ],
)
def test_a_job_makes_no_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tag: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "job.yaml").write_text(f"source: {tag}\n")
    with pytest.raises(JobError, match="could not determine a constructor"):
        load_job(tmp_path / "job.yaml")
    assert not (tmp_path / "trapped").exists()


# jobs that are bombs


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "{a: " * 5000 + "}" * 5000,
        "source: " + "9" * 5000,
        "source: 2024-13-45",
        "source: !!timestamp x",
        "source: !!bool x",
        "source: !!int x",
        "a: &a [*a]",
        "source: {uri: a, uri: b}",
        "{? [1] : 2}",
        "x: " + "a" * 2**19,
        "a0: &a0 {k: x}\n" + "".join(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}\n" for i in range(1, 40)),
    ],
)
def test_a_hostile_job_is_one_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "job.yaml").write_text(text)
    with pytest.raises(JobError):
        read_job_file(tmp_path / "job.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40)),
        f"a: &a {{{','.join(f'k{i}' for i in range(2000))}}}\nb: {{<<: [{','.join(['*a'] * 8000)}]}}\n",
        f'a: &a "{"x" * 100_000}"\nb: [*a, *a, *a, *a, *a]\n',
    ],
)
def test_aliases_that_make_much_of_little_are_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "job.yaml").write_text(text)
    said = r"line \d+: expected at most 524288 values and characters, counting the content of an alias at each use"
    with pytest.raises(JobError, match=said):
        read_job_file(tmp_path / "job.yaml")


def test_much_is_told_before_it_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Merging takes the memory that the limit saves."""
    monkeypatch.setattr(yaml.SafeLoader, "flatten_mapping", lambda *_: pytest.fail("merged"))
    (tmp_path / "job.yaml").write_text(f"a: &a {'x' * 1000}\nb: {{<<: {{k: [{','.join(['*a'] * 1000)}]}}}}\n")
    with pytest.raises(JobError, match="expected at most"):
        read_job_file(tmp_path / "job.yaml")


@pytest.mark.parametrize("text", ["a: &a [*a]", "a: &a {<<: *a}", "a: &a {k: [*a]}"])
def test_an_alias_within_what_it_stands_for_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "job.yaml").write_text(text)
    with pytest.raises(JobError, match="line 1: an alias refers to a node that contains it"):
        read_job_file(tmp_path / "job.yaml")


def test_what_a_job_says_once_may_be_meant_twice(tmp_path: Path) -> None:
    """Aliases that do no harm."""
    (tmp_path / "job.yaml").write_text("a: &s {key: k, list: [1, 2]}\nb: *s\nc: {<<: *s, key: other}\n")
    same = {"key": "k", "list": [1, 2]}
    assert read_job_file(tmp_path / "job.yaml") == {"a": same, "b": same, "c": same | {"key": "other"}}


def test_many_keys_may_be_merged(tmp_path: Path) -> None:
    labels = {f"label{i}": i for i in range(120)}
    text = "base: &base {other: 1}\nthresholds:\n  <<: *base\n" + "".join(f"  {k}: {v}\n" for k, v in labels.items())
    (tmp_path / "job.yaml").write_text(text + "again: {<<: [*base, {more: 2}], other: 3}\n")
    said = read_job_file(tmp_path / "job.yaml")
    assert said["thresholds"] == {"other": 1} | labels
    assert said["again"] == {"other": 3, "more": 2}


def test_a_job_without_aliases_is_limited_by_its_bytes_alone(tmp_path: Path) -> None:
    keys = (f"k{key:03x}" for key in range(2560))
    text = "{" + ",".join(keys)
    (tmp_path / "job.yaml").write_text(f"{text},long: {'x' * (2**18 - len(text.encode()) - 8)}}}")
    assert len(read_job_file(tmp_path / "job.yaml")) == 2561


def test_a_key_that_is_there_twice_is_named(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("source:\n  uri: a\n  uri: b\n")
    with pytest.raises(JobError, match="line 3: a key occurs twice"):
        load_job(tmp_path / "job.yaml")


# secrets

PLANTED = {
    "key": "PLANTEDKEY1",
    "secret": "PLANTED/secret+2",
    "token": "PLANTED_token_3",
    "password": "PLANTED-password-4",
}


def planted_in(text: str | bytes) -> list[str]:
    data = text.encode() if isinstance(text, str) else text
    return [name for name, secret in PLANTED.items() if secret.encode() in data]


@pytest.mark.parametrize(
    "uri",
    [
        "s3://PLANTEDKEY1:PLANTED/secret+2@bucket/x",
        "s3://user:PLANTED-password-4@bucket/x",
        "https://PLANTED_token_3@host/x.parquet",
        "https://host/x.parquet?X-Amz-Signature=PLANTED_token_3",
        "https://host/x?a=1&access_token=PLANTED_token_3",
        "abfs://c@account.dfs.core.windows.net/x?sig=PLANTED_token_3",
        "simplecache::ftp://user:PLANTED-password-4@host/x",
        "http://[PLANTED_token_3:PLANTED/secret+2@host",
    ],
)
@pytest.mark.parametrize("place", ["source", "sink", "model", "option"])
def test_an_address_with_a_secret_is_refused_and_not_repeated(uri: str, place: str) -> None:
    raw: dict[str, Any] = {
        "source": {"uri": "s3://a/"},
        "tasks": [{"task": "token-classification", "model": "s3://m/"}],
        "sink": {"uri": "s3://b/"},
    }
    if place == "option":
        raw["source"]["storage_options"] = {"endpoint_url": uri}
    elif place == "model":
        raw["tasks"][0]["model"] = uri
    else:
        raw[place]["uri"] = uri
    with pytest.raises(JobError, match="must hold no password") as caught:
        parse_job(raw, "job")
    assert not planted_in(str(caught.value))


@pytest.mark.parametrize(
    "uri",
    [
        "hf://org/name@main",
        "abfs://container@account.dfs.core.windows.net/x",
        "http://localhost:9000/x",
        "http://[::1]:9000/x",
        "s3://bucket/a@b",
        "https://host/x?download=true",
        "memory://x",
        "zip://a.parquet::s3://bucket/x.zip",
    ],
)
def test_an_address_without_a_secret_is_none(uri: str) -> None:
    raw = {"source": {"uri": uri}, "tasks": [{"task": "embeddings", "model": uri}], "sink": {"uri": "/out"}}
    assert parse_job(raw, "job").source.uri == uri


PRINTED = st.text(st.characters(categories=("L", "M", "N", "P", "S")))  # what repr prints as it is
PLAIN = st.sampled_from(
    [
        "s3://b",
        "s3://b/k=1/a.parquet",
        "s3://b/a@b",
        "s3://b/it's@x/",
        "http://h:9000",
        "http://10.0.0.1:80/b/a,b",
        "http://h/",
    ]
)


@given(PRINTED, PRINTED)
@example("AK", "se'cr@et/x")
@example("AK", 'se"c')
@example("me@x.com", "p/a")
@example("us/er", "9000/b")
@example("u", "'),'/@:\\")
@example("u", "abcd://efgh")
def test_no_part_of_a_password_is_left(user: str, password: str) -> None:
    assume(not re.search(r"\W\w[\w+.-]*://", f"://{user}:{password}"))  # which is the next address
    address, said = f"s3://{user}:{password}@b/k", "s3://***@b/k"
    assert redacted(f"no route to {address}: gone") == f"no route to {said}: gone"
    assert redacted(repr([address, address])).replace('"', "'") == repr([said, said])


@given(st.lists(PLAIN, min_size=1, max_size=4))
@example(["http://127.0.0.1:9000/b/k", "s3://bucket/part@2024/x.parquet"])
@example(["s3://bucket/part@2024", "http://127.0.0.1:9000/b/k", "zip://a/b@c::http://h:80/x", "s3://bucket/a@b"])
def test_addresses_that_hold_no_secret_are_left(addresses: list[str]) -> None:
    for text in (repr(addresses), "['{}']".format("','".join(addresses)), ",".join(addresses)):
        assert redacted(text) == text


def test_addresses_in_errors_of_libraries_are_redacted() -> None:
    text = 'Could not connect to "http://me:hunter2@10.0.0.1:9000/bucket?X-Amz-Credential=a%2Fb&x=1&X-Amz-Signature=cd"'
    said = 'Could not connect to "http://***@10.0.0.1:9000/bucket?X-Amz-Credential=***&x=1&X-Amz-Signature=***"'
    assert redacted(text) == said
    for secret in ("p@ss", "p'ss", "pa/ss@w", "a#b?c"):  # as the environment may have them
        assert redacted(f"no route to http://me:{secret}@host:9/b") == "no route to http://***@host:9/b"
    assert redacted("https://to@ken@host/x") == "https://***@host/x"
    assert redacted("http://me:a,s3://b@host/x,s3://c/d@e") == "http://***@e"
    for harmless in ("s3://bucket/a@b: gone", "at 10:30 a@b.c said x: y", "file.parquet?token"):
        assert redacted(harmless) == harmless


@pytest.mark.parametrize(
    "value", ["*PLANTEDKEY1", "!PLANTEDKEY1 x", "&PLANTEDKEY1 [*PLANTEDKEY1x]", '"PLANTEDKEY1', "%PLANTEDKEY1"]
)
def test_what_yaml_takes_a_secret_for_is_not_quoted(tmp_path: Path, value: str) -> None:
    (tmp_path / "job.yaml").write_text(f"source: {{uri: a, storage_options: {{\n  secret: {value}\n  }}}}\n")
    with pytest.raises(JobError) as caught:
        load_job(tmp_path / "job.yaml")
    assert not planted_in(str(caught.value))


@pytest.fixture
def job(tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A job that succeeds, with secrets wherever it can hold one; local files take any options."""
    write_shard(tmp_path / "corpus/a.parquet", ["Mary met John in London.", None] * 10)
    for name, secret in zip(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN"), PLANTED.values(), strict=False):
        monkeypatch.setenv(name, secret)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://user:PLANTED-password-4@127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    return {
        "source": {"uri": str(tmp_path / "corpus"), "storage_options": dict(PLANTED)},
        "tasks": [{"task": "token-classification", "model": str(checkpoint), "storage_options": dict(PLANTED)}],
        "sink": {"uri": str(tmp_path / "out"), "storage_options": dict(PLANTED)},
        "compute": {"engine": "local"},
    }


def shorter(tmp_path: Path) -> None:
    write_shard(tmp_path / "corpus/a.parquet", ["one"])


FAILURES: dict[str, Callable[[dict[str, Any], Path], Any]] = {
    "no corpus": lambda job, _: job["source"].update(uri="/nowhere/PLANTED"),
    "no column": lambda job, _: job["source"].update(text="body"),
    "no model": lambda job, _: job["tasks"][0].update(model="/nowhere"),
    "another head": lambda job, _: job["tasks"][0].update(task="question-answering", questions=["who?"]),
    "unknown key": lambda job, _: job["sink"].update(storage_option=PLANTED["secret"]),
    "wrong type": lambda job, _: job["sink"].update(storage_options=PLANTED["secret"]),
    "options that the store does not know": lambda job, _: job["source"].update(uri="s3://bucket/x"),
    "a store that is not there": lambda job, _: job["source"].update(uri="s3://bucket/x", storage_options={}),
    "a sink that is not there": lambda job, _: job["sink"].update(uri="s3://bucket/out", storage_options={}),
    "a model that is not there": lambda job, _: job["tasks"][0].update(model="s3://bucket/m", storage_options={}),
    "a protocol that is none": lambda job, _: job["source"].update(uri="nothing://PLANTED/x"),
    "nothing but a broken shard": lambda _, tmp_path: (tmp_path / "corpus/a.parquet").write_bytes(b"PAR1"),
}


def attempt(
    job: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], log: pytest.LogCaptureFixture
) -> tuple[int, str]:
    """The exit code of `distilray run`, and everything that it said and wrote."""
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    with log.at_level(logging.INFO):
        try:
            code = main(["run", str(tmp_path / "job.yaml")])
        except Exception as error:
            code = 1
            log.messages.append(repr(error))
            print("raised:", error)
    printed = capsys.readouterr()
    return code, printed.out + printed.err + log.text


def written(folder: Path) -> dict[str, list[str]]:
    """Files under a folder that hold a secret, but the job's own; Parquet is searched unpacked, too."""
    import pyarrow.parquet as pq

    found = {}
    for file in sorted(file for file in folder.rglob("*") if file.is_file() and file.name != "job.yaml"):
        data = file.read_bytes()
        if file.suffix == ".parquet" and data[-4:] == b"PAR1" and len(data) > 12:
            table = pq.read_table(file)
            data += repr((table.to_pylist(), pq.read_metadata(file).metadata)).encode()
        found[file.name] = planted_in(data)
    return {name: secrets for name, secrets in found.items() if secrets}


def test_a_run_that_succeeds_keeps_its_secrets(
    job: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    code, said = attempt(job, tmp_path, capsys, caplog)
    assert (code, (tmp_path / "out/_SUCCESS").exists()) == (0, True), said
    assert list((tmp_path / "out/dead").iterdir())
    assert not planted_in(said)
    assert written(tmp_path / "out") == {}
    assert written(Path(os.environ["DISTILRAY_CACHE"])) == {}
    assert not planted_in(
        repr(parse_job(job, "job")) + str(parse_job(job, "job")) + parse_job(job, "job").model_dump_json()
    )
    job["source"]["text"] = "other"
    code, said = attempt(job, tmp_path, capsys, caplog)  # another job into the same sink
    assert code == 2
    assert not planted_in(said)


@pytest.mark.parametrize("failure", FAILURES)
def test_a_run_that_fails_keeps_its_secrets(
    failure: str,
    job: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    FAILURES[failure](job, tmp_path)
    code, said = attempt(job, tmp_path, capsys, caplog)
    assert code != 0
    assert len(said) > 20
    assert not planted_in(said), said
    if (tmp_path / "out").exists():
        assert written(tmp_path / "out") == {}


@pytest.mark.slow
@pytest.mark.parametrize("failure", [None, "nothing but a broken shard", "a shard that changes"])
def test_ray_keeps_secrets_too(failure: str | None, job: dict[str, Any], tmp_path: Path) -> None:
    """Ray's own logs and the names of its actors and tasks included."""
    job["compute"] = {"engine": "ray"}
    temporary = Path(mkdtemp(dir="/tmp"))  # short: sockets lie in it
    if failure in FAILURES:
        FAILURES[failure](job, tmp_path)
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    code = (
        "import ray, sys; ray.init(num_cpus=2, include_dashboard=False, log_to_driver=True); "
        "from distilray.pipeline.cli.main import main; code = main(['run', sys.argv[1]]); "
        "from ray.util.state import list_tasks; sys.exit(code)"
    )
    environment = {
        **os.environ,
        "RAY_TMPDIR": str(temporary),
        "RAY_BACKEND_LOG_LEVEL": "info",
        "RAY_DATA_LOG_LEVEL": "DEBUG",
    }
    environment.pop("AWS_ENDPOINT_URL")
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "job.yaml")],
        env=environment, capture_output=True, timeout=300, check=False,
    )  # fmt: skip
    assert (done.returncode == 0) == (failure not in FAILURES), done.stderr.decode()[-2000:]
    assert not planted_in(done.stdout + done.stderr)
    logs = list((temporary / "ray").rglob("*.log")) + list((temporary / "ray").rglob("*.out"))
    assert logs
    assert [str(file) for file in logs if planted_in(file.read_bytes())] == []
    if failure is None:
        assert written(tmp_path / "out") == {}


# dependencies


def test_every_dependency_is_pinned_exactly() -> None:
    lines = (ROOT / "constraints.txt").read_text().split("\n")
    pins = [line.partition("#")[0].strip() for line in lines if line.partition("#")[0].strip()]
    wrong = [pin for pin in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.+!-]*( *;.*)?", pin)]
    assert wrong == []
    pinned = {normal(pin.split("==")[0]) for pin in pins}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = {name: kinds for name, kinds in project["optional-dependencies"].items() if name != "flash"}
    wanted = [*project["dependencies"], *(each for kinds in optional.values() for each in kinds)]
    assert sorted({normal(re.split(r"[\[<>=!~; ]", each)[0]) for each in wanted} - pinned) == []


def normal(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()

"""The public names, and what commands that compute nothing must not import."""

import json
import pkgutil
import pydoc
import subprocess
import sys
from pathlib import Path

import pytest

import distilray
import distilray.pipeline
from tests.support import local_job, write_shard

HEAVY = ("torch", "ray", "transformers")
CODE = f"""
import json, sys
try:
    code = 0
    {{}}
except SystemExit as error:
    code = error.code
print(json.dumps([code, sorted(set(sys.modules) & set({HEAVY}))]), file=sys.stderr)
"""


def imported(statement: str) -> tuple[int, list[str]]:
    """Run a statement in a new Python. Return its exit code and which of the heavy packages it imported."""
    command = [sys.executable, "-c", CODE.format(statement)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    code, heavy = json.loads(done.stderr.splitlines()[-1])
    return code, heavy


def ran(*arguments: str) -> tuple[int, list[str]]:
    return imported(f"from distilray.pipeline.cli.main import main; code = main({list(arguments)!r})")


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    folder = tmp_path_factory.mktemp("imports")
    write_shard(folder / "corpus/a.parquet", ["Lincoln in Washington", None, "New York"])
    distilray.run(local_job(folder / "corpus", checkpoint, folder / "out"), quiet=True)
    return folder / "out"


@pytest.mark.parametrize(
    "statement",
    [
        "import distilray",
        "import distilray.pipeline, distilray.operators, distilray.operators.tasks",
        "import distilray; distilray.Job, distilray.TokenClassification, distilray.Source, distilray.load_job",
        "from distilray import verify, report_page, JobError",
    ],
)
def test_importing_names_costs_no_torch(statement: str) -> None:
    assert imported(statement) == (0, [])


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--version"], 0),
        (["--help"], 0),
        (["run", "--help"], 0),
        (["rnu", "job.yaml"], 2),
        (["run"], 2),
        (["schema"], 0),
        (["run", "nowhere.yaml"], 2),
        (["status", "some-job"], 2),
        (["stop", "some-job"], 2),
        (["status", "some-job", "--address", "http://127.0.0.1:9"], 1),
    ],
)
def test_commands_that_compute_nothing_import_no_torch(
    arguments: list[str], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.argv", ["distilray"])
    assert ran(*arguments) == (code, [])


@pytest.mark.parametrize("command", ["run", "preview", "plan", "evaluate"])
def test_an_error_in_a_job_file_is_told_without_torch(command: str, tmp_path: Path) -> None:
    job = {
        "source": {"uri": "corpus"},
        "tasks": [{"task": "fill-mask", "model": "m", "topk": 3}],
        "sink": {"uri": "out"},
    }
    (tmp_path / "job.json").write_text(json.dumps(job))
    assert ran(command, str(tmp_path / "job.json")) == (2, [])


def test_verify_and_report_import_no_torch(output: Path, tmp_path: Path) -> None:
    assert ran("verify", str(output)) == (0, [])
    assert ran("verify", str(output), "--quick", "--json") == (0, [])
    assert ran("report", str(output), "--to", str(tmp_path / "page.html")) == (0, [])
    assert ran("verify", str(tmp_path / "nowhere")) == (2, [])


def test_what_computes_imports_torch() -> None:
    """So that the tests above test something."""
    assert imported("import distilray; distilray.evaluate")[1] == ["torch"]


@pytest.mark.parametrize("module", [distilray, distilray.pipeline])
def test_dir_lists_the_public_names_and_nothing_else(module: object) -> None:
    assert dir(module) == sorted(distilray.pipeline.__all__)
    assert {
        "Job",
        "Sink",
        "Source",
        "TokenClassification",
        "evaluate",
        "plan",
        "preview",
        "retry",
        "run",
        "verify",
    } <= {*dir(module)}


def test_every_public_name_is_there_and_is_documented() -> None:
    names: dict[str, object] = {}
    exec("from distilray import *", names)
    for name in distilray.pipeline.__all__:
        assert getattr(distilray, name) is getattr(distilray.pipeline, name) is names[name]
        assert (getattr(distilray, name).__doc__ or "").strip()


def test_no_module_shadows_a_public_name() -> None:
    """Python sets a submodule as an attribute of its package, in the place of a lazy name."""
    for package in (distilray, distilray.pipeline, distilray.operators, distilray.operators.tasks):
        modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
        assert not modules & set(dir(package)), package


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    for module in (distilray, distilray.pipeline, distilray.operators):
        with pytest.raises(AttributeError, match="has no attribute 'Jbo'"):
            module.Jbo  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'Jbo'"):
        exec("from distilray import Jbo", {})


def test_options_are_explained() -> None:
    """By the JSON schema, which editors show, and by help()."""
    models = [distilray.Job, distilray.Source, distilray.Sink, distilray.Compute, distilray.Pool, distilray.Parity]
    models += [getattr(distilray, name) for name in distilray.operators.tasks.MODULES]
    for model in models:
        explained = pydoc.render_doc(model, renderer=pydoc.plaintext)
        for name, field in model.model_fields.items():
            assert field.description, (model, name)
            assert f"{name}: {field.description}" in explained

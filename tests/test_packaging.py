"""The folders install as distilray.*, and the dependencies between them point one way."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import distilray

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("model", "operators", "pipeline", "deploy")


def imports(folder: str) -> set[str]:
    """Every module that the files of a folder import, at the top or inside a function."""
    found = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def uses(folder: str, module: str) -> bool:
    return any(name == module or name.startswith(f"{module}.") for name in imports(folder))


@pytest.mark.parametrize(
    "module", ["ray", "pyarrow.dataset", "distilray.pipeline", "distilray.operators", "transformers"]
)
def test_model_knows_neither_ray_nor_the_layers_above(module: str) -> None:
    assert not uses("model", module)


@pytest.mark.parametrize("module", ["ray", "distilray.pipeline", "transformers"])
def test_operators_know_neither_ray_nor_the_pipeline(module: str) -> None:
    assert not uses("operators", module)


@pytest.mark.parametrize(
    "module",
    [
        "ray",
        "torch",
        "pyarrow",
        "pydantic",
        "distilray.pipeline",
        "distilray.operators",
        "distilray.model.storage.store",
    ],
)
def test_deploy_runs_where_only_airflow_is(module: str) -> None:
    assert not uses("deploy", module)


def test_only_one_file_of_the_pipeline_imports_ray() -> None:
    files = [path.name for path in (ROOT / "pipeline").rglob("*.py") if "import ray" in path.read_text()]
    assert files == ["ray_data.py"]
    assert not uses("pipeline", "transformers")


@pytest.mark.parametrize("folder", FOLDERS)
def test_nothing_unpickles_or_evaluates(folder: str) -> None:
    names = {
        node.func.id
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not names & {"eval", "exec", "__import__"}
    assert not uses(folder, "pickle")


def test_the_listed_packages_are_those_of_the_tree() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    tree = {
        "distilray." + path.parent.relative_to(ROOT).as_posix().replace("/", ".")
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("__init__.py")
    }
    assert set(setuptools["packages"]) == tree | {"distilray"}
    assert all((ROOT / folder).is_dir() for folder in setuptools["package-dir"].values())
    assert set(setuptools["package-dir"]) == set(setuptools["packages"])


def test_an_uninstalled_checkout_is_importable(tmp_path: Path) -> None:
    """As in `ray job submit --working-dir .`: the repository on the path, nothing installed."""
    code = "import distilray.model.network.config, distilray; print(distilray.model.network.config.__file__)"
    command = [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = [{str(ROOT)!r}, *{sys.path!r}]; {code}"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()
    assert said == str(ROOT / "model/network/config.py")


def test_a_wheel_holds_every_module_and_nothing_else(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-q",
        "-w",
        str(tmp_path),
        str(ROOT),
    ]
    subprocess.run(command, check=True, capture_output=True)
    import zipfile

    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    modules = {f"distilray/{path.relative_to(ROOT)}" for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}
    packaged = {name for name in names if ".dist-info/" not in name}
    templates = {f"distilray/{path.relative_to(ROOT)}" for path in (ROOT / "pipeline/report").glob("*.[cj]*")}
    assert len(templates) == 5
    assert packaged == modules | templates | {"distilray/__init__.py", "distilray/__main__.py", "distilray/py.typed"}


def test_the_images_are_named_after_this_version() -> None:
    files = [ROOT / "docs/kubernetes.md", *(ROOT / "deploy").rglob("*.yaml")]
    tags = [
        tag for file in files for tag in re.findall(r"distilray:(\S+)-(?:cuda|cpu)\b", file.read_text(encoding="utf-8"))
    ]
    assert len(tags) > len(files)
    assert set(tags) == {distilray.__version__}

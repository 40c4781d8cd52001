"""The folders install as distilray.* with all modules, and no module unpickles or evaluates input."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import distilray
from distilray.__main__ import _DEPENDENCIES
from tests.test_layers import imports

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("model", "operators", "pipeline", "deploy")


@pytest.mark.parametrize("folder", FOLDERS)
def test_nothing_unpickles_or_evaluates(folder: str) -> None:
    names = {
        node.func.id
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not names & {"eval", "exec", "__import__"}
    assert not {module.split(".")[0] for path in (ROOT / folder).rglob("*.py") for module in imports(path)} & {"pickle"}


def test_the_listed_packages_are_those_of_the_tree() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    tree = {
        "distilray." + path.parent.relative_to(ROOT).as_posix().replace("/", ".")
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("__init__.py")
    }
    assert set(setuptools["packages"]) == tree | {"distilray"}
    # setuptools derives the folders of all other packages from these
    assert setuptools["package-dir"] == {"distilray": "distilray", **{f"distilray.{name}": name for name in FOLDERS}}
    assert all((ROOT / folder).is_dir() for folder in setuptools["package-dir"].values())


def test_an_uninstalled_checkout_is_importable(tmp_path: Path) -> None:
    """The repository is on the path and nothing is installed, as with `ray job submit --working-dir .`."""
    code = "import distilray.model.network.config, distilray; print(distilray.model.network.config.__file__)"
    command = [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = [{str(ROOT)!r}, *{sys.path!r}]; {code}"]
    printed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()
    assert printed == str(ROOT / "model/network/config.py")


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
    # a build folder of its own: that of the checkout may contain modules that no longer exist
    (tmp_path / "build.cfg").write_text(f"[build]\nbuild_base = {tmp_path / 'build'}\n")
    environment = {**os.environ, "DIST_EXTRA_CONFIG": str(tmp_path / "build.cfg")}
    subprocess.run(command, env=environment, check=True, capture_output=True)
    import zipfile

    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    modules = {f"distilray/{path.relative_to(ROOT)}" for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}
    packaged = {name for name in names if ".dist-info/" not in name}
    templates = {f"distilray/{path.relative_to(ROOT)}" for path in (ROOT / "pipeline/report").glob("*.[cj]*")}
    assert len(templates) == 5
    own = {f"distilray/{name}" for name in ("__init__.py", "__main__.py", "lazy.py", "py.typed")}
    assert packaged == modules | templates | own


def test_the_tags_of_the_images_have_this_version() -> None:
    files = [ROOT / "docs/kubernetes.md", *(ROOT / "deploy").rglob("*.yaml")]
    tags = [
        tag for file in files for tag in re.findall(r"distilray:(\S+)-(?:cuda|cpu)\b", file.read_text(encoding="utf-8"))
    ]
    assert len(tags) > len(files)
    assert set(tags) == {distilray.__version__}


def test_the_command_line_knows_every_dependency() -> None:
    """A missing one becomes one line instead of a traceback."""
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.split(r"[\[><=~!;]", dependency)[0].strip() for dependency in dependencies}
    assert {name.replace("pyyaml", "yaml") for name in names} == _DEPENDENCIES

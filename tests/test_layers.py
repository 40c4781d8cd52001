"""The order of the folders: each folder imports only folders of the lines below it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# From the top to the ground floor. A folder may import the folders of lower lines, and no others. "operators" alone
# stands for its flat modules, and so on. docs/architecture.md has the same lines.
LAYERS = [
    "pipeline/cli",
    "pipeline",
    "pipeline/terminal",
    "pipeline/report",
    "pipeline/commands",
    "pipeline/render",
    "pipeline/sink",
    "pipeline/planning",
    "pipeline/corpus",
    "pipeline/engines",
    "pipeline/job",
    "pipeline/errors.py",
    "operators",
    "operators/tasks",
    "operators/evaluation",
    "operators/objects",
    "operators/isolation",
    "operators/rows",
    "operators/errors.py",
    "model/inspect.py",
    "model/decode",
    "model/inference",
    "model/tokenizer",
    "model/checkpoint",
    "model/network",
    "model/metrics",
    "model/storage",
    "model/errors.py",
    "model/arrays.py",
    "distilray",
]
MOST_MODULES = 12


def layer_of(module: str) -> str | None:
    """The line that a module of distilray belongs to, None for one of the project's other parts."""
    parts = module.split(".")
    if parts[0] != "distilray":
        return None
    if len(parts) < 3 or parts[1] not in ("model", "operators", "pipeline"):
        return "distilray" if len(parts) < 2 or parts[1] in ("lazy", "__version__") else parts[1]
    for layer in ("/".join(parts[1:3]), f"{'/'.join(parts[1:3])}.py"):
        if layer in LAYERS:
            return layer
    return parts[1]


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports: at the top, in a function, or for the type checker only."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def upward_imports(root: Path) -> list[str]:
    found = []
    for folder in ("pipeline", "operators", "model"):
        for path in sorted((root / folder).rglob("*.py")):
            file = path.relative_to(root).as_posix()
            here = layer_of("distilray." + file.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
            for module in imports(path):
                there = layer_of(module)
                if there in LAYERS and there != here and LAYERS.index(there) < LAYERS.index(str(here)):
                    found.append(f"{file} imports {module}: {here} must not import {there}")
    return found


def crowded_folders(root: Path) -> list[str]:
    folders = {path.parent for folder in ("pipeline", "operators", "model") for path in (root / folder).rglob("*.py")}
    counts = {folder: len({*folder.glob("*.py")} - {folder / "__init__.py"}) for folder in folders}
    return [f"{folder.relative_to(root)}: {count} modules" for folder, count in counts.items() if count > MOST_MODULES]


def test_each_folder_imports_only_what_stands_below_it() -> None:
    assert upward_imports(ROOT) == []


def test_no_folder_holds_more_modules_than_a_reader_takes_in() -> None:
    assert crowded_folders(ROOT) == []


def test_every_folder_has_its_line() -> None:
    folders = {
        path.parent.relative_to(ROOT).as_posix()
        for folder in ("pipeline", "operators", "model")
        for path in (ROOT / folder).rglob("__init__.py")
    }
    lines = {layer for layer in LAYERS if not layer.endswith(".py")}
    below = {folder for folder in folders if folder.count("/") > 1}  # belongs to the folder above it
    assert folders - below == lines - {"distilray"} | {"model"}


def test_the_architecture_page_has_the_same_lines() -> None:
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `([a-z/._]+)` \|", page, re.MULTILINE)[: len(LAYERS)] == LAYERS


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("operators/read.py", "from distilray.pipeline.job.job import Job\n"),
        ("operators/rows/ragged.py", "from distilray.operators import read\n"),
        ("model/network/encoder.py", "from distilray.model.inference import predictor\n"),
        ("pipeline/job/job.py", "from distilray.pipeline.sink import output\n"),
        ("pipeline/sink/output.py", "def f():\n    from distilray.pipeline import run\n"),
        ("model/arrays.py", "import distilray.model.errors\n"),
    ],
)
def test_one_forbidden_import_is_found(tmp_path: Path, file: str, line: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(line)
    assert len(upward_imports(tmp_path)) == 1


def test_one_module_too_many_is_found(tmp_path: Path) -> None:
    (tmp_path / "pipeline/sink").mkdir(parents=True)
    for number in range(MOST_MODULES):
        (tmp_path / f"pipeline/sink/m{number}.py").touch()
    (tmp_path / "pipeline/sink/__init__.py").touch()
    assert crowded_folders(tmp_path) == []
    (tmp_path / "pipeline/sink/one_more.py").touch()
    assert crowded_folders(tmp_path) == [f"pipeline/sink: {MOST_MODULES + 1} modules"]


def classes() -> Iterator[tuple[str, str]]:
    for folder in ("pipeline", "operators", "model", "deploy"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef):
                    yield node.name, path.relative_to(ROOT).as_posix()


def test_no_class_name_exists_twice() -> None:
    places: dict[str, list[str]] = {}
    for name, file in classes():
        places.setdefault(name, []).append(file)
    assert {name: files for name, files in places.items() if len(files) > 1} == {}


def test_model_and_operators_know_neither_ray_nor_transformers() -> None:
    for folder in ("model", "operators"):
        for path in (ROOT / folder).rglob("*.py"):
            assert not {module.split(".")[0] for module in imports(path)} & {"ray", "transformers"}, path


def test_only_the_engine_on_ray_imports_ray() -> None:
    files = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "pipeline").rglob("*.py")
        if "ray" in {module.split(".")[0] for module in imports(path)}
    ]
    assert files == ["pipeline/engines/ray_data.py"]


def test_deploy_runs_where_only_airflow_is() -> None:
    for path in (ROOT / "deploy").rglob("*.py"):
        found = [module for module in imports(path) if layer_of(module) in LAYERS]
        allowed = ("distilray.model.storage.redact", "distilray.model.storage.safe_yaml", "distilray.deploy")
        ours = [module for module in found if layer_of(module) != "distilray"]
        assert all(module.startswith(allowed) for module in ours), path
        assert not {module.split(".")[0] for module in imports(path)} & {"ray", "torch", "pyarrow", "pydantic"}, path

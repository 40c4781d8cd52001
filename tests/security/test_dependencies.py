"""The pins of the dependencies."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_dependency_is_pinned_exactly() -> None:
    lines = (ROOT / "constraints.txt").read_text().split("\n")
    pins = [line.partition("#")[0].strip() for line in lines if line.partition("#")[0].strip()]
    inexact = [pin for pin in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.+!-]*( *;.*)?", pin)]
    assert inexact == []
    pinned = {normalized(pin.split("==")[0]) for pin in pins}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = {name: kinds for name, kinds in project["optional-dependencies"].items() if name != "flash"}
    required = [*project["dependencies"], *(package for kinds in optional.values() for package in kinds)]
    assert sorted({normalized(re.split(r"[\[<>=!~; ]", package)[0]) for package in required} - pinned) == []


def normalized(name: str) -> str:
    """Return the name of a package in the form in which indexes compare names."""
    return re.sub(r"[-_.]+", "-", name).lower()

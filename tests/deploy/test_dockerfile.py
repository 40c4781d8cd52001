"""deploy/Dockerfile: it passes its linter, copies existing files, and pins every package."""

import fnmatch
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
DOCKERFILE = ROOT / "deploy/Dockerfile"
HADOLINT = Path(sysconfig.get_path("scripts")) / "hadolint"
PIN = re.compile(r"[A-Za-z0-9._-]+==\S+")


def instructions() -> list[tuple[str, str]]:
    """Return each instruction and its arguments, with continued lines joined and without comments."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined) if word]


def stages() -> dict[str, list[tuple[str, str]]]:
    """Return the instructions of each stage by its name."""
    found: dict[str, list[tuple[str, str]]] = {}
    for word, rest in instructions():
        if word == "FROM":
            found[rest.split(" AS ")[1]] = []
        if found:
            found[next(reversed(found))].append((word, rest))
    return found


def lint(dockerfile: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([HADOLINT, "--no-color", dockerfile], capture_output=True, text=True, check=False)


def copied() -> list[str]:
    """Return every file and folder that is copied from the repository."""
    copies = [rest.split() for word, rest in instructions() if word == "COPY" and not rest.startswith("--from")]
    return [source for words in copies for source in words[:-1]]


def pip(verb: str) -> list[str]:
    runs = [part for word, rest in instructions() if word == "RUN" for part in rest.split("&&")]
    return [part for part in runs if f"pip {verb}" in part]


def test_the_linter_finds_no_problem(tmp_path: Path) -> None:
    done = lint(DOCKERFILE)
    assert (done.returncode, done.stdout) == (0, "")
    wrong = tmp_path / "Dockerfile"
    wrong.write_text(re.sub(r"slim-trixie|:\$\{PYTHON\}", "", DOCKERFILE.read_text()).replace("rm -rf", "ls"))
    assert {"DL3006", "DL3009"} <= set(re.findall(r"DL\d+", lint(wrong).stdout))


def test_copied_files_exist_and_are_not_ignored() -> None:
    rules = [rule for rule in (ROOT / ".dockerignore").read_text().split("\n") if rule and not rule.startswith("#")]
    assert rules[0] == "*"
    allowed = [rule.removeprefix("!") for rule in rules if rule.startswith("!")]
    assert copied()
    for source in copied():
        assert (ROOT / source).exists(), source
    assert set(allowed) == {source.partition("/")[0] for source in copied()}
    assert not any(fnmatch.fnmatch(name, ".*") for name in allowed)


def test_every_package_is_pinned() -> None:
    own = (ROOT / "deploy/constraints.txt").read_text().splitlines()[1:]
    everywhere = (ROOT / "constraints.txt").read_text().splitlines()
    assert all(PIN.fullmatch(line) for line in own)
    names = [{line.split("==")[0].lower().replace("_", "-") for line in lines} for lines in (own, everywhere)]
    assert not names[0] & names[1]  # each package has one pin
    for command in [*pip("install"), *pip("wheel")]:
        assert "--constraint" in command or "--no-deps" in command, command
        assert not re.findall(r"==", command)
    (torch,) = [command for command in pip("install") if "--index-url" in command]
    assert "--no-deps" in torch
    assert "--constraint constraints.txt" in torch
    with_project = [command for command in pip("install") if "requirements.txt" in command]
    assert len(with_project) == 2
    assert all("--constraint constraints.txt" in command for command in with_project)


def test_base_images_are_pinned() -> None:
    arguments = dict(rest.split("=", 1) for word, rest in instructions() if word == "ARG")
    assert re.fullmatch(r"3\.1[1-9]\.\d+-slim-\w+", arguments["PYTHON"])
    bases = re.findall(r"--from=(\S+:\S+)", DOCKERFILE.read_text())
    assert bases
    assert all(re.search(r":\d+\.\d+\.\d+-", base) for base in bases)
    for stage in stages().values():
        base = stage[0][1].split()[0]
        assert base in {*stages(), "python:${PYTHON}", "packages-${ATTENTION}"}


def test_targets_run_without_root_and_offer_a_choice_of_kernels() -> None:
    found = stages()
    for target in ("cpu", "cuda"):
        words = [word for word, _ in found[target]]
        assert ("USER", "1000") in found[target]
        assert "RUN" not in words[words.index("USER") :]
    arguments = dict(rest.split("=", 1) for word, rest in instructions() if word == "ARG")
    assert {"packages-varlen", "packages-flash", f"packages-{arguments['ATTENTION']}"} <= set(found)


def test_requirements_equal_those_of_the_project() -> None:
    (command,) = [rest for word, rest in instructions() if word == "RUN" and "tomllib" in rest]
    code = command.split(" > ")[0].partition('-c "')[2].rstrip('"')
    listed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert listed.stdout.split("\n")[:-1] == [*project["dependencies"], *extras["h5"], *extras["hub"], "boto3"]


@pytest.mark.slow
def test_the_copied_files_suffice_for_a_wheel(tmp_path: Path) -> None:
    for source in copied():
        (tmp_path / "src" / source).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, tmp_path / "src" / source, dirs_exist_ok=True)
        else:
            shutil.copy(ROOT / source, tmp_path / "src" / source)
    (command,) = [rest for word, rest in stages()["wheel"] if "pip wheel" in rest]
    arguments = command.replace("/wheel ", f"{tmp_path} ").split()
    subprocess.run([sys.executable, *arguments[1:]], cwd=tmp_path / "src", check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {str(Path(name).parent).replace("/", ".") for name in zipfile.ZipFile(wheel).namelist()}
    assert set(packages) <= folders

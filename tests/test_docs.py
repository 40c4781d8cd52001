"""Every command, job and program in the documentation works as written."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
import yaml

from distilray.pipeline.cli import parser
from distilray.pipeline.job import parse_job
from tests.support import read_output

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "deploy/README.md",
    ROOT / "examples/README.md",
]
# proven elsewhere: what CI runs, tests/test_submit.py, test_examples.py, test_examples_models.py, test_benchmark*.py and
# pipeline/test_report_in_browser.py;
# what needs a GPU machine was run by hand
ELSEWHERE = {
    "make example",
    "make test",
    "make test-slow",
    "make audit",
    "python -m tests.fuzz --count 100000",
    "python -m tests.chaos --kills 200",
    "ray job submit --working-dir . -- python examples/ner_corpus.py",
    "ray job submit examples/ner_corpus.py",
    ".venv/bin/python examples/century_corpus.py",
    ".venv/bin/python examples/make_century assemble",
    ".venv/bin/distilray evaluate examples/jobs/century.yaml",
    ".venv/bin/distilray preview examples/jobs/ner.yaml --rows 2",
    ".venv/bin/distilray preview examples/jobs/ner.yaml --rows 2 --html preview.html",
    ".venv/bin/distilray report out/ner-yaml",
    ".venv/bin/distilray report out/ner-yaml --to ner.html --rows 20",
    ".venv/bin/python benchmarks/tokenization.py",
    ".venv/bin/python benchmarks/forward.py --threads 2",
    ".venv/bin/python benchmarks/tasks.py",
    ".venv/bin/python benchmarks/end_to_end.py",
    ".venv/bin/python benchmarks/overhead.py",
    ".venv/bin/python benchmarks/scale.py",
    ".venv/bin/python benchmarks/gpu.py",
    ".venv/bin/python benchmarks/on_gpu.py prepare build/wheels",
    ".venv/bin/python benchmarks/on_gpu.py run build/wheels figures",
}


def blocks(language: str) -> list[tuple[Path, str]]:
    """The fenced blocks of a language over all pages."""
    fence = re.compile(rf"^```{language}\n(.*?)^```", re.MULTILINE | re.DOTALL)
    return [(page, block) for page in PAGES for block in fence.findall(page.read_text(encoding="utf-8"))]


def commands() -> list[str]:
    lines = [line.split("   #")[0].strip() for _, block in blocks("bash") for line in block.splitlines()]
    return list(dict.fromkeys(line for line in lines if line and line not in ELSEWHERE))


@pytest.mark.parametrize("command", commands())
def test_every_command_works(command: str, checkout: Path) -> None:
    program, *arguments = shlex.split(command)
    if program == "duckdb":  # the Python package has no program of that name
        assert arguments[0] == "-c"
        assert duckdb.sql(arguments[1].replace("out/", f"{checkout}/out/")).fetchall()
        return
    assert program == ".venv/bin/distilray", f"{command}: add how it is tested"
    done = subprocess.run(
        [sys.executable, "-m", "distilray.pipeline.cli", *arguments],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.cluster
@pytest.mark.parametrize("program", [block for _, block in blocks("python")])
@pytest.mark.slow
def test_every_program_works(program: str, checkout: Path) -> None:
    done = subprocess.run([sys.executable, "-c", program], cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert read_output(checkout / "out/readme").num_rows > 20
    assert done.stderr == ""  # Ray is silent


@pytest.mark.parametrize(("page", "block"), blocks("yaml"), ids=lambda value: getattr(value, "name", ""))
def test_every_job_is_valid(page: Path, block: str) -> None:
    parse_job(yaml.safe_load(block), page.name)


def test_every_job_key_is_documented() -> None:
    text = (ROOT / "docs/jobs.md").read_text()
    schema = parse_job(
        {"source": {"uri": "x"}, "tasks": [{"task": "token-classification", "model": "x"}], "sink": {"uri": "y"}}, "x"
    ).model_json_schema()
    keys = {key for part in [schema, *schema["$defs"].values()] for key in part.get("properties", {})}
    assert not [key for key in keys if not re.search(rf"\b{key}:", text)]


def test_the_command_line_is_documented_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert (ROOT / "docs/cli.md").read_text() == cli_page()


def cli_page() -> str:
    """docs/cli.md, from the parser: `python -m tests.test_docs` writes it anew."""
    top = parser()
    actions = [action for action in top._actions if action.dest == "command"]
    helps = [top.format_help(), *(command.format_help() for command in actions[0].choices.values())]
    return "# Command line\n\n" + "\n".join(f"```\n{text}```\n" for text in helps)


def test_every_link_leads_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


if __name__ == "__main__":
    import os

    os.environ["COLUMNS"] = "100"
    (ROOT / "docs/cli.md").write_text(cli_page())

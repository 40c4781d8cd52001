"""Every command, job and program of the documentation works as written."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
import yaml

from distilray.pipeline.cli.parser import parser
from distilray.pipeline.job.job import parse_job
from tests.support import read_output

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "deploy/README.md",
    ROOT / "examples/README.md",
]
# their tests: tests/operators/test_standalone_ray.py, tests/pipeline/commands/test_delta.py and tests/test_add_a_task.py
PAGES_WITH_OWN_TESTS = {"operators.md", "inputs.md", "add-a-task.md"}
# commands that CI or other test files run; those that need a machine with a GPU are run by hand
TESTED_ELSEWHERE = {
    "make example",
    ".venv/bin/distilray schema",
    ".venv/bin/distilray schema > docs/job.schema.json",
    ".venv/bin/distilray to-parquet examples/questions.jsonl out/questions --columns context question id",
    "make test",
    "make test-slow",
    "make audit",
    "python -m tests.fuzz --count 100000",
    "python -m tests.chaos --kills 200",
    "ray job submit --working-dir . -- python examples/ner_corpus.py",
    "ray job submit examples/ner_corpus.py",
    "PATH=$PWD/.venv/bin:$PATH ray start --head",
    ".venv/bin/ray stop",
    ".venv/bin/distilray submit examples/jobs/ner.yaml --address http://127.0.0.1:8265",
    (
        ".venv/bin/distilray submit examples/jobs/ner.yaml --set compute.engine=ray --set sink.uri=out/ner-ray "
        "--address http://127.0.0.1:8265"
    ),
    "distilray submit job.yaml --address http://localhost:8265",
    ".venv/bin/distilray status distilray-ner-yaml-0123456789ab --address http://127.0.0.1:8265",
    ".venv/bin/distilray stop distilray-ner-yaml-0123456789ab --address http://127.0.0.1:8265",
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


# programs that need a cluster, a registry or a cloud; the tests check the files and resources that the commands name
REMOTE_PROGRAMS = {"docker", "kubectl", "ray"}


def blocks(language: str) -> list[tuple[Path, str]]:
    """Return the fenced code blocks of a language from all pages."""
    fence = re.compile(rf"^```{language}\n(.*?)^```", re.MULTILINE | re.DOTALL)
    return [(page, block) for page in PAGES for block in fence.findall(page.read_text(encoding="utf-8"))]


def commands() -> list[str]:
    lines = [line.split("   #")[0].strip() for _, block in blocks("bash") for line in block.splitlines()]
    return list(dict.fromkeys(line for line in lines if line and line not in TESTED_ELSEWHERE))


def is_remote(command: str) -> bool:
    return shlex.split(command)[0] in REMOTE_PROGRAMS


@pytest.mark.slow
@pytest.mark.parametrize("command", [command for command in commands() if not is_remote(command)])
def test_every_command_works(command: str, checkout: Path) -> None:
    program, *arguments = shlex.split(command)
    if program == "duckdb":  # the Python package has no program of that name
        assert arguments[0] == "-c"
        assert duckdb.sql(arguments[1].replace("out/", f"{checkout}/out/")).fetchall()
        return
    assert program == ".venv/bin/distilray", f"{command}: add how it is tested"
    done = subprocess.run(
        [sys.executable, "-m", "distilray", *arguments],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", [command for command in commands() if is_remote(command)])
def test_the_files_and_resources_of_a_remote_command_exist(command: str) -> None:
    """They are files and folders, targets of the Dockerfile, resources of the manifests, and commands of distilray."""
    arguments = shlex.split(command)[1:]
    assert not [word for word in arguments if word.startswith(("deploy/", "examples/")) and not (ROOT / word).exists()]
    if "--target" in arguments:
        target = arguments[arguments.index("--target") + 1]
        assert f" AS {target}\n" in (ROOT / "deploy/Dockerfile").read_text()
        assert any(word.endswith(f"-{target}") for word in arguments)
    manifests = [
        manifest for path in (ROOT / "deploy/kuberay").glob("*.yaml") for manifest in yaml.safe_load_all(path.open())
    ]
    names = {(manifest["kind"].lower(), manifest["metadata"]["name"]) for manifest in manifests}
    named = [tuple(word.split("/")) for word in arguments if re.fullmatch(r"(job|rayjob|raycluster)/[a-z-]+", word)]
    assert {
        ("rayjob" if kind == "job" else kind, name) for kind, name in named
    } <= names  # KubeRay gives the Job the name of the RayJob
    if "--" in arguments:
        program, *command_line = arguments[arguments.index("--") + 1 :]
        assert program == "distilray"
        parser().parse_args(command_line)


@pytest.mark.cluster
@pytest.mark.parametrize(
    "program", [block for page, block in blocks("python") if page.name not in PAGES_WITH_OWN_TESTS]
)
@pytest.mark.slow
def test_every_program_works(program: str, checkout: Path) -> None:
    done = subprocess.run([sys.executable, "-c", program], cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert read_output(checkout / "out/readme").num_rows > 20
    assert done.stderr == ""  # Ray prints nothing


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


def test_the_page_of_the_command_line_is_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert (ROOT / "docs/cli.md").read_text() == cli_page()


def cli_page() -> str:
    """Return the text of docs/cli.md, from the parser. `python -m tests.test_docs` writes the page."""
    top = parser()
    actions = [action for action in top._actions if action.dest == "command"]
    helps = [top.format_help(), *(command.format_help() for command in actions[0].choices.values())]
    return "# Command line\n\n" + "\n".join(f"```\n{text}```\n" for text in helps)


def test_the_hours_of_the_sizing_table_are_tokens_over_rates() -> None:
    text = (ROOT / "docs/operations.md").read_text()
    table = text[text.index("| text | tokens |") :].split("\n\n")[0].splitlines()
    head, rows = table[0], table[2:]
    rates = [
        float(count) * float(rate.replace(",", ""))
        for count, rate in re.findall(r"(\d+)(?: GPUs)?(?: x| of) ([\d,]+)", head)
    ]
    assert len(rates) == 5
    seconds = {"h": 3600, "min": 60, "s": 1}
    scales = {"GB": 1e9, "TB": 1e12}
    assert len(rows) == 4
    for row in rows:
        size, tokens, *hours = (cell.strip() for cell in row.strip("|").split("|"))
        amount, unit = size.split()
        count = float(tokens.removesuffix(" G")) * 1e9
        assert count == pytest.approx(float(amount) * scales[unit] / 100e6 * 21.2e6)  # measured in docs/performance.md
        for rate, cell in zip(rates, hours, strict=True):
            number, time_unit = cell.replace(",", "").split()
            step = 0.1 if "." in number else 1.0
            assert abs(count / rate / seconds[time_unit] - float(number)) <= step / 2


def test_every_link_has_a_target() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


if __name__ == "__main__":
    import os

    os.environ["COLUMNS"] = "100"
    (ROOT / "docs/cli.md").write_text(cli_page())

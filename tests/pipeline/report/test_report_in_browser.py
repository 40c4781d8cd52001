"""Pages of outputs and previews in a real headless Chromium: no requests, no problems, legible texts, right figures."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from distilray.pipeline.commands.preview import preview
from distilray.pipeline.report.output_page import report_page
from distilray.pipeline.report.preview_page import preview_page
from tests.pipeline.report.browser import CONTRAST, PageEvents, find_chromium, opened, served
from tests.pipeline.report.pages import hostile_job

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_chromium() is None,
        reason="NO BROWSER: pages are not tested; apt-get install chromium, or any Chrome on PATH",
    ),
]
FIGURES = (
    "Object.fromEntries([...document.querySelectorAll('[data-figure]')].map(e => [e.dataset.figure, e.textContent]))"
)
HOSTILE_ELEMENTS = "document.querySelectorAll('script, img, iframe, object, embed, u, i, b, svg [onload]').length"


async def inspect_page(folder: Path, name: str, shots: Path | None = None) -> tuple[PageEvents, dict[str, str]]:
    """Open a page over HTTP in both themes, wide and narrow. Returns its events and its figures."""
    with served(folder) as (address, requested):
        async with opened(f"{address}/{name}", folder / f"profile-{name}") as tab:
            for width in (1000, 400):
                for scheme in ("light", "dark"):
                    await tab.show(width, scheme)
                    if shots:
                        await tab.screenshot(shots / f"{name}-{width}-{scheme}.png")
                    assert await tab.value("document.documentElement.scrollWidth") <= width
                    ratio, where = await tab.value(CONTRAST)
                    assert ratio >= 4.5, f"{name} {scheme}: {where}"
            assert (
                await tab.value("getComputedStyle(document.body).margin") == "0px"
            )  # the policy allows the style sheet of the page
            assert await tab.value(HOSTILE_ELEMENTS) == 0
            figures = await tab.value(FIGURES)
        assert requested == [f"/{name}"]
    return tab.events, figures


def test_pages_over_hostile_texts_cause_no_problems(tmp_path: Path) -> None:
    job = hostile_job(tmp_path)
    (tmp_path / "report.html").write_text(report_page(job.sink.uri, rows=20))
    (tmp_path / "preview.html").write_text(preview_page(preview(job, 40)))
    manifest = json.loads(Path(job.sink.uri, "_manifest.json").read_text())
    for name in ("report.html", "preview.html"):
        events, figures = asyncio.run(inspect_page(tmp_path, name))
        assert events.problems == []
        assert [url.rsplit("/", 1)[1] for url in events.requests] == [name]
        assert figures["rows"] == str(manifest["rows"])
        assert figures["dead_letters"] == str(sum(manifest["dead"].values()))


COMMANDS = (
    "preview examples/jobs/ner.yaml --rows 2",
    "preview examples/jobs/ner.yaml --rows 2 --html preview.html",
    "report out/ner-yaml",
    "report out/ner-yaml --to ner.html --rows 20",
)


def test_the_documented_commands_write_pages_that_a_browser_shows(checkout: Path) -> None:
    for command in COMMANDS:
        subprocess.run([sys.executable, "-m", "distilray", *command.split()], cwd=checkout, check=True)
    manifest = json.loads((checkout / "out/ner-yaml/_manifest.json").read_text())
    events, figures = asyncio.run(inspect_page(checkout, "report.html"))
    assert (events.problems, len(events.requests)) == ([], 1)
    for name in ("rows", "units", "shards", "tokens", "computed_tokens", "padding"):
        assert figures[name] == f"{manifest[name]:,}"
    for label, count in manifest["labels"]["entities"].items():
        assert figures[f"labels.entities.{label}"] == f"{count:,}"
    events, figures = asyncio.run(inspect_page(checkout, "preview.html"))
    assert (events.problems, len(events.requests), figures["rows"]) == ([], 1, "2")


def test_requests_and_problems_of_a_page_are_recorded(tmp_path: Path) -> None:
    """The other tests rely on this."""
    policy = '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'">'
    for name, page in (
        ("loads.html", '<body style="margin: 0"><img src="/x.png">'),
        ("runs.html", f"{policy}<script>alert(1)</script>"),
    ):
        (tmp_path / name).write_text(f"<!doctype html>{page}")

        async def load(name: str = name) -> PageEvents:
            with served(tmp_path) as (address, _):
                async with opened(f"{address}/{name}", tmp_path / f"profile-{name}") as tab:
                    await tab.value("1")  # earlier events arrive before the answer
                    return tab.events

        events = asyncio.run(load())
        assert any(url.endswith("/x.png") for url in events.requests) == (name == "loads.html")
        assert events.problems

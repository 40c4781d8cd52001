"""Rendering of the templates. Every value is escaped, and invisible characters are shown as their code points."""

import base64
import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from distilray import __version__
from distilray.pipeline.job.job import Job
from distilray.pipeline.render.answers import Document, labels_of
from distilray.pipeline.render.escape import escape_invisible
from distilray.pipeline.render.highlight import Passage, passage
from distilray.pipeline.report import charts

_HERE = Path(__file__).parent
_COLOURS = 8
_PASSAGE_LENGTH = 1200  # characters


def render(template: str, job: Job, documents: list[Document], **values: Any) -> str:
    """Render a template to a page.

    The page has no script and sends no request. Its Content-Security-Policy allows only its own style sheet, by its
    hash.
    """
    style = (_HERE / "page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    job_yaml = yaml.safe_dump(job.description(), sort_keys=False, allow_unicode=True)
    passages = [(document, _passage(document)) for document in documents]
    colours = {label: number % _COLOURS for label, number in labels_of(documents).items()}
    values |= {"job": job, "job_yaml": job_yaml, "documents": passages, "colours": colours, "charts": charts}
    values |= {"style": Markup(style), "digest": digest, "version": __version__, "now": datetime.now(UTC)}  # noqa: S704  own file
    return _environment().get_template(template).render(values)


def _environment() -> Environment:
    """Return the Jinja environment. Autoescape is on for every template, whatever its name."""
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_escape_invisible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": lambda value: f"{value:,}", "figure": _figure, "percent": "{:.1%}".format}
    environment.filters |= {"time": lambda when: f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"}
    environment.filters |= {"compact": charts.compact, "duration": charts.duration}
    return environment


def _escape_invisible(value: Any) -> Any:
    """Replace invisible characters in a value. Jinja calls it for every value and escapes the result."""
    return escape_invisible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _passage(document: Document) -> Passage:
    return passage(document.text, document.spans, _PASSAGE_LENGTH)


def _figure(value: float | str | None) -> str:
    """Format a number of any size. None becomes a dash."""
    if value is None:
        return "\u2013"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)

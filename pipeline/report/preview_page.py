"""The HTML page of a preview."""

from typing import TYPE_CHECKING

from distilray.pipeline.report.html import render

if TYPE_CHECKING:  # writing a page must not import torch
    from distilray.pipeline.commands.preview import Preview


def preview_page(preview: "Preview") -> str:
    """Return the HTML page of a preview."""
    return render("preview.html.j2", preview.job, preview.documents, preview=preview)

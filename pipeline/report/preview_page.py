"""The page of a preview."""

from typing import TYPE_CHECKING

from distilray.pipeline.report.html import render

if TYPE_CHECKING:  # the command line imports no torch to write a page
    from distilray.pipeline.commands.preview import Preview


def preview_page(preview: "Preview") -> str:
    """HTML of what `preview` found."""
    return render("preview.html.j2", preview.job, preview.documents, preview=preview)

"""The page of a preview."""

from distilray.pipeline.page.html import render
from distilray.pipeline.preview import Preview


def preview_page(preview: Preview) -> str:
    """HTML of what `preview` found."""
    return render("preview.html.j2", preview.job, preview.documents, preview=preview)

"""One self-contained HTML page of an output, or of a preview: `distilray report`, `distilray preview --html`.

>>> from distilray.pipeline.page import preview_page, report_page
"""

from distilray.pipeline.page.preview import preview_page
from distilray.pipeline.page.report import report_page

__all__ = ["preview_page", "report_page"]

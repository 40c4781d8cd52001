"""HTML pages: the report of an output and the page of a preview, their templates and their style sheet.

Import `report_page` from distilray.pipeline.report.output_page and `preview_page` from its module of the same name.
"""

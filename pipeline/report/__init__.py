"""HTML pages: the report of an output and the page of a preview, their templates and their style sheet.

Other folders import `report_page` from `output_page`, and `preview_page` from `preview_page`.
"""

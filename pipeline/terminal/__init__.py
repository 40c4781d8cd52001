"""Output in a terminal: the progress of a run, summaries, tables and coloured passages.

Other folders import from all modules: `progress`, `summary`, `tables`, `text` and `modes`.
"""

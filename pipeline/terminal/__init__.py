"""Output in a terminal: the progress of a run, summaries, tables and coloured passages.

Import from its modules `progress`, `summary`, `tables`, `text` and `modes`; other folders do not print to a terminal.
"""

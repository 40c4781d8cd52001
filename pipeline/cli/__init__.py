"""The command line: it parses arguments, calls the functions of pipeline and shows their results.

Import `main` from distilray.pipeline.cli.main, or `parser` from distilray.pipeline.cli.parser, and nothing else.
"""

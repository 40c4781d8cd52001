"""The entry point of the command line."""

import sys
from collections.abc import Sequence
from importlib import import_module

from distilray.pipeline.cli.parser import parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command, and return its exit code.

    0: done; 1: stopped in the middle, run it again; 2: it cannot be done as asked; 130: interrupted. What runs a command is
    imported after its arguments were parsed, so that `--help` and a mistyped command are quick.
    """
    arguments = parser().parse_args(argv)
    exit_code: int = import_module("distilray.pipeline.cli.dispatch").dispatch(arguments)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())

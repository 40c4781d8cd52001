"""The entry point of the command line."""

import sys
from collections.abc import Sequence
from importlib import import_module

from distilray.pipeline.cli.parser import parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    0: the command succeeded. 1: it stopped before its end; run it again. 2: its arguments or its job are wrong. 130: it
    was interrupted. The code that runs a command is imported after its arguments are parsed. `--help` and a mistyped
    command are therefore quick.
    """
    arguments = parser().parse_args(argv)
    exit_code: int = import_module("distilray.pipeline.cli.dispatch").dispatch(arguments)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())

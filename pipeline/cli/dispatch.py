"""The call of a command's function. Expected errors become one line on the standard error and an exit code."""

import argparse
import sys
from importlib import import_module

from rich.console import Console

from distilray.deploy.errors import SubmitError, UnreachableError
from distilray.pipeline.cli.exit_codes import INTERRUPTED, UNFINISHED, USER_ERROR
from distilray.pipeline.errors import STOP_ERRORS, UNFINISHED_ERRORS, USER_ERRORS
from distilray.pipeline.render.escape import escape_invisible

# module of this folder -> the commands whose functions it has; each module imports only what its commands need
_MODULES = {
    "jobs": ("run", "preview", "plan", "evaluate", "schema"),
    "outputs": ("verify", "report", "retry"),
    "remote": ("submit", "status", "stop"),
    "files": ("to-parquet", "inspect", "convert"),
}
_RESUMABLE = ("run", "retry")
_RESUME_ADVICE = "committed units are kept; run the same command again to resume"


def dispatch(arguments: argparse.Namespace) -> int:
    """Run the command of parsed arguments and return its exit code."""
    module = next(name for name, commands in _MODULES.items() if arguments.command in commands)
    advice = f"; {_RESUME_ADVICE}" if arguments.command in _RESUMABLE else ""
    try:
        function = getattr(import_module(f"distilray.pipeline.cli.{module}"), arguments.command.replace("-", "_"))
        return function(arguments, Console(highlight=False)) or 0
    except (*USER_ERRORS, SubmitError) as error:
        _print_error(str(error))
        return USER_ERROR
    except (*UNFINISHED_ERRORS, UnreachableError) as error:
        _print_error(str(error))
        return UNFINISHED
    except STOP_ERRORS as error:
        _print_error(f"{error}{advice}")
        return UNFINISHED
    except KeyboardInterrupt:
        _print_error(f"stopped{advice}")
        return INTERRUPTED
    except Exception as error:
        if advice:
            error.add_note(f"distilray: {_RESUME_ADVICE}")
        raise


def _print_error(message: str) -> None:
    """Print an error message to the standard error.

    Invisible characters are escaped, because the message may quote a row, a column or a file name of the corpus.
    """
    print(f"distilray: {escape_invisible(message)}", file=sys.stderr)

"""Call the function of a command, and turn what it raises into one line and an exit code."""

import argparse
import sys
from importlib import import_module

from rich.console import Console

from distilray.deploy.errors import SubmitError, UnreachableError
from distilray.pipeline.cli.exit_codes import INTERRUPTED, UNFINISHED, USER_ERROR
from distilray.pipeline.errors import STOP_ERRORS, UNFINISHED_ERRORS, USER_ERRORS
from distilray.pipeline.render.escape import escape_invisible

# the module of this folder that has the function of each command; each imports only what its commands need
_MODULES = {
    "jobs": ("run", "preview", "plan", "evaluate", "schema"),
    "outputs": ("verify", "report", "retry"),
    "remote": ("submit", "status", "stop"),
    "files": ("to-parquet", "inspect", "convert"),
}
_RESUMED = ("run", "retry")
_AGAIN = "what is committed is kept; run the same command again to go on"


def dispatch(arguments: argparse.Namespace) -> int:
    """Run the command that was parsed, and return its exit code."""
    module = next(name for name, commands in _MODULES.items() if arguments.command in commands)
    again = f"; {_AGAIN}" if arguments.command in _RESUMED else ""
    try:
        function = getattr(import_module(f"distilray.pipeline.cli.{module}"), arguments.command.replace("-", "_"))
        return function(arguments, Console(highlight=False)) or 0
    except (*USER_ERRORS, SubmitError) as error:
        _complain(str(error))
        return USER_ERROR
    except (*UNFINISHED_ERRORS, UnreachableError) as error:
        _complain(str(error))
        return UNFINISHED
    except STOP_ERRORS as error:
        _complain(f"{error}{again}")
        return UNFINISHED
    except KeyboardInterrupt:
        _complain(f"stopped{again}")
        return INTERRUPTED
    except Exception as error:
        if again:
            error.add_note(f"distilray: {_AGAIN}")
        raise


def _complain(text: str) -> None:
    """Print an error, which may quote a row, a column or a file name of the corpus."""
    print(f"distilray: {escape_invisible(text)}", file=sys.stderr)

"""The command line as `python -m distilray`. A missing dependency becomes one line: it is common on clusters."""

import sys

_USER_ERROR = 2


def main() -> int:
    """Run `distilray` and return its exit code, or 2 if a dependency is not installed."""
    try:
        from distilray.pipeline.cli.main import main as command  # noqa: PLC0415

        return command()  # a command imports most dependencies only when it runs
    except ModuleNotFoundError as error:
        if not error.name or error.name.startswith("distilray"):
            raise
        advice = (
            "run distilray with a Python that has its dependencies; "
            "on a cluster, start Ray with that Python first on the PATH"
        )
        print(f"distilray: {sys.executable} has no {error.name}: {advice}", file=sys.stderr)
        return _USER_ERROR


if __name__ == "__main__":
    sys.exit(main())

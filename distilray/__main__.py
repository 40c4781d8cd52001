"""`python -m distilray`: the command, also where Python may lack what it needs, as on a cluster."""

import sys

_WRONG_AS_GIVEN = 2


def main() -> int:
    """The exit code of `distilray`, 2 for a Python without its dependencies."""
    try:
        from distilray.pipeline.cli.main import main as command  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("distilray"):
            raise
        todo = (
            "run it with one that has distilray's dependencies; on a cluster, start Ray with that one first on the PATH"
        )
        print(f"distilray: {sys.executable} has no {error.name}: {todo}", file=sys.stderr)
        return _WRONG_AS_GIVEN
    return command()


if __name__ == "__main__":
    sys.exit(main())

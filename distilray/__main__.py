"""The command line as `python -m distilray`. A missing dependency becomes one line: it is common on clusters."""

import sys

_USER_ERROR = 2
# the modules of the dependencies in pyproject.toml
_DEPENDENCIES = {
    "fsspec", "jinja2", "msgpack", "numpy", "pyarrow", "pydantic", "ray", "requests", "rich", "s3fs", "safetensors",
    "tokenizers", "torch", "yaml",
}  # fmt: skip


def main() -> int:
    """Run `distilray` and return its exit code, or 2 if a dependency is not installed."""
    try:
        from distilray.pipeline.cli.main import main as command  # noqa: PLC0415

        return command()  # a command imports most dependencies only when it runs
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _DEPENDENCIES:
            raise
        advice = (
            "run distilray with a Python that has its dependencies; "
            "on a cluster, start Ray with that Python first on the PATH"
        )
        print(f"distilray: {sys.executable} has no {error.name}: {advice}", file=sys.stderr)
        return _USER_ERROR


if __name__ == "__main__":
    sys.exit(main())

"""DistilBERT over text corpora of any size on Ray Data.

>>> from distilray import Job, Sink, Source, TokenClassification, run

The public names are those of distilray.pipeline. They are imported at their first use: importing this package imports
neither torch nor Ray.

The code is in the folders pipeline/, operators/, model/ and deploy/ of the repository. They install as
distilray.pipeline, distilray.operators, distilray.model and distilray.deploy. In a source checkout that is not
installed, this file makes them importable.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distilray.pipeline import *  # noqa: F403

__version__ = "0.5.0"

_root = Path(__file__).resolve().parent.parent
if (_root / "pyproject.toml").is_file() and (_root / "pipeline" / "__init__.py").is_file():
    __path__.append(str(_root))  # noqa: F405


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return __dir__()
    if name in __dir__():
        return getattr(import_module("distilray.pipeline"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return dir(import_module("distilray.pipeline"))

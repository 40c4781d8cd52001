"""DistilBERT over text corpora of any size on Ray Data.

The code lies in the folders pipeline/, operators/, model/ and deploy/ of the repository, which install as
distilray.pipeline, distilray.operators, distilray.model and distilray.deploy. In a source checkout that is not installed, this file makes them importable.
"""

from pathlib import Path

__version__ = "0.5.0"

_root = Path(__file__).resolve().parent.parent
if (_root / "pyproject.toml").is_file() and (_root / "pipeline" / "__init__.py").is_file():
    __path__.append(str(_root))

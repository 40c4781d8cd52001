"""The steps through which rows pass. Each step is a plain callable from Arrow table to Arrow table.

A step runs in a for-loop or on Ray.

>>> from distilray.operators import Predict, TokenClassification, Tokenize

The modules outside of the folders are the steps in the order of a run: read, tokenize, predict, write. In an evaluation, `evaluate`
replaces predict and write. In a retry, `merge_retried` replaces write. The folders hold what the steps share.
"""

from typing import TYPE_CHECKING

from distilray.lazy import lazy_names
from distilray.operators import tasks as _tasks

if TYPE_CHECKING:
    from distilray.operators.errors import ColumnSizeError, TableError, TaskError
    from distilray.operators.standalone import Predict, Tokenize
    from distilray.operators.tasks import *  # noqa: F403

__all__ = [
    "ColumnSizeError",
    "Predict",
    "TableError",
    "TaskError",
    "Tokenize",
]
__all__ += _tasks.__all__

_MODULES = {
    **dict.fromkeys(("ColumnSizeError", "TableError", "TaskError"), "distilray.operators.errors"),
    **dict.fromkeys(("Predict", "Tokenize"), "distilray.operators.standalone"),
    **dict.fromkeys(_tasks.MODULES, "distilray.operators.tasks"),
}
__getattr__, __dir__ = lazy_names(__name__, _MODULES)

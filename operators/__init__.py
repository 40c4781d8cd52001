"""The steps through which rows pass. Each step is a plain callable from Arrow table to Arrow table.

A step runs in a for-loop or on Ray.

>>> from distilray.operators import Predict, TokenClassification, Tokenize

The modules outside of the folders are the steps in the order of a run: read, tokenize, predict, write. In an evaluation, `evaluate`
replaces predict and write. In a retry, `merge_retried` replaces write. The folders hold what the steps share.
"""

from typing import TYPE_CHECKING

from distilray.lazy import lazy_names
from distilray.operators.tasks import MODULES as _TASKS

if TYPE_CHECKING:
    from distilray.operators.errors import ColumnSizeError, TableError, TaskError
    from distilray.operators.standalone import Predict, Tokenize
    from distilray.operators.tasks import (
        Embeddings,
        FillMask,
        MultipleChoice,
        QuestionAnswering,
        TextClassification,
        TokenClassification,
        ZeroShotClassification,
    )

__all__ = [
    "ColumnSizeError",
    "Embeddings",
    "FillMask",
    "MultipleChoice",
    "Predict",
    "QuestionAnswering",
    "TableError",
    "TaskError",
    "TextClassification",
    "TokenClassification",
    "Tokenize",
    "ZeroShotClassification",
]

_MODULES = {
    **dict.fromkeys(("ColumnSizeError", "TableError", "TaskError"), "distilray.operators.errors"),
    **dict.fromkeys(("Predict", "Tokenize"), "distilray.operators.standalone"),
    **dict.fromkeys(_TASKS, "distilray.operators.tasks"),
}
__getattr__, __dir__ = lazy_names(__name__, _MODULES)

"""Plain callables, Arrow table to Arrow table: the same ones run in a for-loop and on Ray.

>>> from distilray.operators import Predict, TokenClassification, Tokenize
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distilray.operators.columns import ColumnSizeError
    from distilray.operators.plain import Predict, TableError, Tokenize
    from distilray.operators.task import TaskError
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
    "ColumnSizeError": "columns",
    "Predict": "plain",
    "TableError": "plain",
    "TaskError": "task",
    "Tokenize": "plain",
}


def __getattr__(name: str) -> Any:
    """Late: a module of this folder that is run by itself must not be imported before."""
    if name not in __all__:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'tasks')}"), name)

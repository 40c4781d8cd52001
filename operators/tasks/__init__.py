"""The tasks, one module each: its options, its request to the model, its column, and the use of its answers.

A new task is one module and one line in MODULES: see docs/add-a-task.md.
"""

from typing import TYPE_CHECKING

from distilray.lazy import lazy_names

if TYPE_CHECKING:
    from distilray.operators.tasks.embeddings import Embeddings
    from distilray.operators.tasks.fill_mask import FillMask
    from distilray.operators.tasks.multiple_choice import MultipleChoice
    from distilray.operators.tasks.question_answering import QuestionAnswering
    from distilray.operators.tasks.text_classification import TextClassification
    from distilray.operators.tasks.token_classification import TokenClassification
    from distilray.operators.tasks.zero_shot import ZeroShotClassification

# the tasks of a job: class -> module, in the order of errors and of the JSON schema
MODULES = {
    "TokenClassification": "distilray.operators.tasks.token_classification",
    "TextClassification": "distilray.operators.tasks.text_classification",
    "ZeroShotClassification": "distilray.operators.tasks.zero_shot",
    "QuestionAnswering": "distilray.operators.tasks.question_answering",
    "FillMask": "distilray.operators.tasks.fill_mask",
    "MultipleChoice": "distilray.operators.tasks.multiple_choice",
    "Embeddings": "distilray.operators.tasks.embeddings",
}

__all__ = [
    "Embeddings",
    "FillMask",
    "MultipleChoice",
    "QuestionAnswering",
    "TextClassification",
    "TokenClassification",
    "ZeroShotClassification",
]
__getattr__, __dir__ = lazy_names(__name__, MODULES)

"""One module a task: its options, what it asks of the model, and the column it makes."""

from distilray.operators.tasks.embeddings import Embeddings
from distilray.operators.tasks.fill_mask import FillMask
from distilray.operators.tasks.multiple_choice import MultipleChoice
from distilray.operators.tasks.question_answering import QuestionAnswering
from distilray.operators.tasks.text_classification import TextClassification
from distilray.operators.tasks.token_classification import TokenClassification
from distilray.operators.tasks.zero_shot import ZeroShotClassification

__all__ = [
    "Embeddings",
    "FillMask",
    "MultipleChoice",
    "QuestionAnswering",
    "TextClassification",
    "TokenClassification",
    "ZeroShotClassification",
]

"""A job, its plan, and the engines that run it.

>>> from distilray.pipeline import Job, Sink, Source, TokenClassification, run
"""

from distilray.model.attention import BackendError
from distilray.model.config import CheckpointError
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
from distilray.pipeline.count import IncompleteError
from distilray.pipeline.errors import JobError
from distilray.pipeline.evaluate import evaluate
from distilray.pipeline.job import Compute, Job, Pool, Sink, Source, load_job
from distilray.pipeline.report import run
from distilray.pipeline.run import Result

__all__ = [
    "BackendError",
    "CheckpointError",
    "Compute",
    "Embeddings",
    "FillMask",
    "IncompleteError",
    "Job",
    "JobError",
    "MultipleChoice",
    "Pool",
    "QuestionAnswering",
    "Result",
    "Sink",
    "Source",
    "TaskError",
    "TextClassification",
    "TokenClassification",
    "ZeroShotClassification",
    "evaluate",
    "load_job",
    "run",
]

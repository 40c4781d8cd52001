"""A job, its plan, and the engines that run it.

>>> from distilray.pipeline import Job, Sink, Source, TokenClassification, run
"""

from distilray.model.attention import BackendError
from distilray.model.config import CheckpointError
from distilray.model.store import StoreError
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
from distilray.pipeline.budget import DeadLettersError
from distilray.pipeline.count import IncompleteError
from distilray.pipeline.errors import FencedError, JobError, StalledError
from distilray.pipeline.evaluate import evaluate
from distilray.pipeline.job import Compute, Job, Parity, Pool, Sink, Source, load_job
from distilray.pipeline.parity import ParityError
from distilray.pipeline.report import run
from distilray.pipeline.retry import Retried, retry
from distilray.pipeline.run import Result
from distilray.pipeline.to_parquet import Converted, to_parquet
from distilray.pipeline.verify import Verdict, verify

__all__ = [
    "BackendError",
    "CheckpointError",
    "Compute",
    "Converted",
    "DeadLettersError",
    "Embeddings",
    "FencedError",
    "FillMask",
    "IncompleteError",
    "Job",
    "JobError",
    "MultipleChoice",
    "Parity",
    "ParityError",
    "Pool",
    "QuestionAnswering",
    "Result",
    "Retried",
    "Sink",
    "Source",
    "StalledError",
    "StoreError",
    "TaskError",
    "TextClassification",
    "TokenClassification",
    "Verdict",
    "ZeroShotClassification",
    "evaluate",
    "load_job",
    "retry",
    "run",
    "to_parquet",
    "verify",
]

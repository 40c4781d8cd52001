"""A job, its plan, and the engines that run it.

>>> from distilray.pipeline import Job, Sink, Source, TokenClassification, run
"""

from distilray.model.attention import BackendError
from distilray.model.config import CheckpointError
from distilray.pipeline.commit import IncompleteError
from distilray.pipeline.errors import JobError
from distilray.pipeline.job import Compute, Job, Pool, Sink, Source, TokenClassification, load_job
from distilray.pipeline.report import run
from distilray.pipeline.run import Result

__all__ = [
    "BackendError",
    "CheckpointError",
    "Compute",
    "IncompleteError",
    "Job",
    "JobError",
    "Pool",
    "Result",
    "Sink",
    "Source",
    "TokenClassification",
    "load_job",
    "run",
]

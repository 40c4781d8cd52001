"""A job, its plan, and the engines that run it.

>>> from distilray.pipeline import Job, Sink, Source, TokenClassification, run
"""

from distilray.pipeline.errors import JobError
from distilray.pipeline.job import Compute, Job, Pool, Sink, Source, TokenClassification, load_job
from distilray.pipeline.report import run
from distilray.pipeline.run import Result

__all__ = [
    "Compute",
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

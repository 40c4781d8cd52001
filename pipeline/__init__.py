"""A job, its plan, the engines that run it and the output.

>>> from distilray.pipeline import Job, Sink, Source, TokenClassification, run

The public names are imported at their first use: importing this package imports neither torch nor Ray.
"""

from typing import TYPE_CHECKING

from distilray.lazy import lazy_names
from distilray.operators import tasks as _tasks

if TYPE_CHECKING:
    from distilray.model.errors import BackendError, CheckpointError, StoreError
    from distilray.operators.errors import TaskError
    from distilray.operators.tasks import *  # noqa: F403
    from distilray.pipeline.api import run
    from distilray.pipeline.commands.dry_run import DryRun, plan
    from distilray.pipeline.commands.evaluate import evaluate
    from distilray.pipeline.commands.preview import Preview, preview
    from distilray.pipeline.commands.retry import Retried, retry
    from distilray.pipeline.commands.run import Result
    from distilray.pipeline.commands.to_parquet import Converted, to_parquet
    from distilray.pipeline.commands.verify import Verdict, verify
    from distilray.pipeline.errors import (
        DeadLettersError,
        FencedError,
        IncompleteError,
        JobError,
        ParityError,
        StalledError,
    )
    from distilray.pipeline.job.job import Compute, Job, Parity, Pool, Sink, Source, load_job
    from distilray.pipeline.report.output_page import report_page
    from distilray.pipeline.report.preview_page import preview_page

__all__ = [
    "BackendError",
    "CheckpointError",
    "Compute",
    "Converted",
    "DeadLettersError",
    "DryRun",
    "FencedError",
    "IncompleteError",
    "Job",
    "JobError",
    "Parity",
    "ParityError",
    "Pool",
    "Preview",
    "Result",
    "Retried",
    "Sink",
    "Source",
    "StalledError",
    "StoreError",
    "TaskError",
    "Verdict",
    "evaluate",
    "load_job",
    "plan",
    "preview",
    "preview_page",
    "report_page",
    "retry",
    "run",
    "to_parquet",
    "verify",
]
__all__ += _tasks.__all__

_JOB = "distilray.pipeline.job.job"
_ERRORS = "distilray.pipeline.errors"
_COMMANDS = "distilray.pipeline.commands"
_MODULES = {
    **dict.fromkeys(("BackendError", "CheckpointError", "StoreError"), "distilray.model.errors"),
    **dict.fromkeys(("Compute", "Job", "Parity", "Pool", "Sink", "Source", "load_job"), _JOB),
    **dict.fromkeys(("DeadLettersError", "FencedError", "IncompleteError", "JobError", "ParityError"), _ERRORS),
    "StalledError": _ERRORS,
    "TaskError": "distilray.operators.errors",
    "run": "distilray.pipeline.api",
    "Result": f"{_COMMANDS}.run",
    **dict.fromkeys(("Retried", "retry"), f"{_COMMANDS}.retry"),
    **dict.fromkeys(("Verdict", "verify"), f"{_COMMANDS}.verify"),
    **dict.fromkeys(("Preview", "preview"), f"{_COMMANDS}.preview"),
    **dict.fromkeys(("DryRun", "plan"), f"{_COMMANDS}.dry_run"),
    **dict.fromkeys(("Converted", "to_parquet"), f"{_COMMANDS}.to_parquet"),
    "evaluate": f"{_COMMANDS}.evaluate",
    "report_page": "distilray.pipeline.report.output_page",
    "preview_page": "distilray.pipeline.report.preview_page",
    **dict.fromkeys(_tasks.MODULES, "distilray.operators.tasks"),
}
__getattr__, __dir__ = lazy_names(__name__, _MODULES)

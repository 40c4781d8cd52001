"""What a user can put right: reported as one line, exit code 2."""

from distilray.model.attention import BackendError
from distilray.model.calibrate import CalibrationError
from distilray.model.config import CheckpointError
from distilray.model.metrics import MetricError
from distilray.model.windows import WindowError
from distilray.operators.columns import ColumnSizeError
from distilray.operators.read import ShardError
from distilray.operators.task import TaskError


class JobError(ValueError):
    """A job that cannot run as it is written: what was expected, what came, where, and what to do."""


USER_ERRORS = (
    JobError,
    TaskError,
    MetricError,
    CheckpointError,
    BackendError,
    CalibrationError,
    WindowError,
    ShardError,
    ColumnSizeError,
)

"""What a user can put right: reported as one line, exit code 2. What only stops a run: as one line too, exit code 1."""

from distilray.model.attention import BackendError
from distilray.model.calibrate import CalibrationError
from distilray.model.config import CheckpointError
from distilray.model.metrics import MetricError
from distilray.model.predictor import DeviceMemoryError, NotFiniteError
from distilray.model.store import PackageError, StoreError
from distilray.model.windows import WindowError
from distilray.operators.columns import ColumnSizeError
from distilray.operators.read import ShardError
from distilray.operators.sandbox import SandboxError
from distilray.operators.task import TaskError
from distilray.operators.write import UnitError


class FencedError(RuntimeError):
    """A newer run owns the sink."""


class StalledError(RuntimeError):
    """Nothing has come to its end for too long: what waits for what."""


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
    PackageError,
    ShardError,
    ColumnSizeError,
)
STOP_ERRORS = (StoreError, FencedError, StalledError, SandboxError, UnitError, NotFiniteError, DeviceMemoryError)

"""What a user can put right: reported as one line, exit code 2. What only stops a run: as one line too, exit code 1."""

from distilray.model.errors import (
    BackendError,
    CalibrationError,
    CheckpointError,
    DeviceMemoryError,
    MetricError,
    NotFiniteError,
    PackageError,
    StoreError,
    WindowError,
)
from distilray.operators.errors import ColumnSizeError, SandboxError, ShardError, TaskError, UnitError


class FencedError(RuntimeError):
    """A newer run owns the sink."""


class StalledError(RuntimeError):
    """Nothing has come to its end for too long: what waits for what."""


class JobError(ValueError):
    """A job that cannot run as it is written: what was expected, what came, where, and what to do."""


class DeadLettersError(RuntimeError):
    """More rows died than the job allows."""


class IncompleteError(RuntimeError):
    """Rows planned and rows answered differ: the run must not say success."""


class ParityError(RuntimeError):
    """More decisions of a run differ from those of its float32 reference than the job allows, or nobody can tell."""


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
UNFINISHED_ERRORS = (IncompleteError, DeadLettersError, ParityError, FencedError)

"""The errors of a run, grouped by the way in which the command line reports them.

A user can fix USER_ERRORS. The command line prints them in one line and exits with code 2. STOP_ERRORS stop a run that
is otherwise valid. UNFINISHED_ERRORS leave an output without _SUCCESS. For both, the command line prints one line and
exits with code 1.
"""

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
    """A run that stops because a newer run owns its sink."""


class StalledError(RuntimeError):
    """A run without progress for too long. The message lists the workers of each stage and the free resources."""


class JobError(ValueError):
    """A job that cannot run as it is written. The message has what was expected, what came, where, and what to do."""


class DeadLettersError(RuntimeError):
    """More dead letters than the job allows."""


class IncompleteError(RuntimeError):
    """An output whose rows or units differ from its plan. Such an output gets no _SUCCESS."""


class ParityError(RuntimeError):
    """Too many decisions that differ from the float32 reference, or too few rows that were compared with it."""


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

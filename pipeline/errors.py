"""The errors of a run, by how the command line reports them.

USER_ERRORS are errors that a user can fix: one line and exit code 2. STOP_ERRORS stop a run that is otherwise valid,
and UNFINISHED_ERRORS leave an output without _SUCCESS: one line and exit code 1.
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
    """A newer run owns the sink."""


class StalledError(RuntimeError):
    """A run without progress for too long. The message lists the stages that wait, and for which resources."""


class JobError(ValueError):
    """A job that cannot run as it is written. The message has what was expected, what came, where, and what to do."""


class DeadLettersError(RuntimeError):
    """More dead letters than the job allows."""


class IncompleteError(RuntimeError):
    """An output whose rows or units differ from its plan, so that it gets no _SUCCESS."""


class ParityError(RuntimeError):
    """More decisions that differ from the float32 reference than the job allows, or too few compared rows to know."""


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

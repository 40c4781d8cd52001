"""The errors of the model package."""

from distilray.model.arrays import Arrays, Ints


class BackendError(ValueError):
    """A device, dtype or attention kernel that was requested and is not available on this machine."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be used. The message names what was expected, what came, and the file."""


class CalibrationError(ValueError):
    """A file of stored calibrations that cannot be read."""


class WindowError(ValueError):
    """A length or an overlap of windows that is not possible."""


class DeviceMemoryError(RuntimeError):
    """A single sequence that does not fit in the free memory of a device."""


class NotFiniteError(FloatingPointError):
    """Outputs that are NaN, infinite or huge.

    sequences: the numbers of the sequences with such outputs, int64. outputs: the outputs of the whole call, as it
    would have returned them, with zeros at the positions that are not finite.
    """

    def __init__(self, backend: str, sequences: Ints, outputs: list[Arrays]) -> None:
        super().__init__(f"NaN, infinite or huge logits on {backend}; try dtype bfloat16 or float32")
        self.sequences, self.outputs = sequences, outputs


class MetricError(ValueError):
    """Gold and predictions that cannot be compared. The message names what was expected, what came, and where."""


class StoreError(OSError):
    """A store that fails on every attempt, or whose data does not match its listing."""


class PackageError(ImportError):
    """A store whose package is not installed."""

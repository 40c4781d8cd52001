"""The errors of the model package."""

from distilray.model.arrays import Arrays, Ints


class BackendError(ValueError):
    """A device, dtype or attention kernel that was asked for and cannot be had here."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be used: what was expected, what came, in which file."""


class CalibrationError(ValueError):
    """A file of remembered calibrations that cannot be read."""


class WindowError(ValueError):
    """Windows that cannot be laid as asked."""


class DeviceMemoryError(RuntimeError):
    """A single sequence does not fit in what is left of a device's memory."""


class NotFiniteError(FloatingPointError):
    """Outputs that are NaN, infinite or huge. sequences: which have such, by number, int64; outputs: of the whole call, as it
    would have returned them, with zeros in their places."""

    def __init__(self, backend: str, sequences: Ints, outputs: list[Arrays]) -> None:
        super().__init__(f"NaN, infinite or huge logits on {backend}; try dtype bfloat16 or float32")
        self.sequences, self.outputs = sequences, outputs


class MetricError(ValueError):
    """Gold and predictions that cannot be compared: what was expected, what came, where."""


class StoreError(OSError):
    """A store that fails again and again, or does not give what it has listed."""


class PackageError(ImportError):
    """A store whose package is not installed."""

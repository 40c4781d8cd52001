"""The forecast of a run: its tokens, device-hours and cost, from a sample of its corpus and the rate of its devices."""

from dataclasses import asdict, dataclass, replace
from typing import Any

HOUR = 3600.0


@dataclass(frozen=True)
class Forecast:
    """The forecast of a whole plan, or of a share of it.

    sampled_rows: the number of rows in the sample. tokens: the tokens of the texts. computed_tokens: the tokens that
    the model computes, with [CLS], [SEP], overlaps and every question or label. padded_tokens: the tokens that batches
    of 32 would compute, in the order of the corpus and padded to the longest sequence. tokenize_rate: tokens of texts
    per CPU second. devices: predict workers, each on a GPU or on CPU threads. rate: tokens that one predict worker
    computes per second, None if it was not measured on such a device. device: the device that was measured, "cpu" or
    the name of a GPU.
    """

    sampled_rows: int
    tokens: int
    computed_tokens: int
    padded_tokens: int
    tokenize_rate: float
    devices: int
    rate: float | None = None
    device: str | None = None

    @property
    def device_hours(self) -> float | None:
        """The device-hours of computing, without the time that workers wait."""
        return self.computed_tokens / self.rate / HOUR if self.rate else None

    @property
    def tokenizers_per_device(self) -> float | None:
        """The number of tokenizers that keep one predict worker busy, None if it is unknown."""
        if not self.rate or not self.computed_tokens or not self.tokenize_rate:
            return None
        return self.rate * self.tokens / self.computed_tokens / self.tokenize_rate

    def is_for(self, on_gpu: bool) -> bool:
        """Return whether the rate, and the token budget found with it, were measured on that kind of device."""
        return self.rate is not None and (self.device != "cpu") == on_gpu

    def share(self, part: float) -> "Forecast":
        """Return the forecast of a part of the rows. part: the share of the rows, from 0 to 1."""
        counts = (self.tokens, self.computed_tokens, self.padded_tokens)
        tokens, computed, padded = (round(count * part) for count in counts)
        return replace(self, tokens=tokens, computed_tokens=computed, padded_tokens=padded)

    def description(self, price: float | None) -> dict[str, Any]:
        """Return the forecast as plain data. price: the price of a device-hour."""
        hours = self.device_hours
        return {
            **asdict(self),
            "device_hours": hours,
            "hours": hours / self.devices if hours is not None else None,
            "cost": cost(hours, price),
        }


def cost(device_hours: float | None, price: float | None) -> float | None:
    """Return the cost of device-hours, or None if either number is unknown."""
    return device_hours * price if device_hours is not None and price is not None else None

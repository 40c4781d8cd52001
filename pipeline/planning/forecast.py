"""What a run will come to, from a sample of its corpus and the rate of its devices; and what it came to."""

from dataclasses import asdict, dataclass, replace
from typing import Any

HOUR = 3600.0


@dataclass(frozen=True)
class Forecast:
    """Of a whole plan, or a share of it. sampled_rows: what it is estimated from; tokens: of the texts; computed_tokens:
    with [CLS], [SEP], overlaps and every question or label; padded_tokens: what batches of 32 in the order of the corpus,
    padded to their longest, would compute; tokenize_rate: tokens of texts a CPU second; devices: predict workers, each on
    a GPU or on CPU threads; rate: tokens that one computes a second, None if nobody measured it on such a device; device:
    what was measured, "cpu" or the name of a GPU.
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
        """Of computing only: what workers wait comes on top."""
        return self.computed_tokens / self.rate / HOUR if self.rate else None

    @property
    def tokenizers_per_device(self) -> float | None:
        """Tokenizers that one predict worker keeps busy."""
        if not self.rate or not self.computed_tokens or not self.tokenize_rate:
            return None
        return self.rate * self.tokens / self.computed_tokens / self.tokenize_rate

    def is_for(self, on_gpu: bool) -> bool:
        """Whether the rate, and the token budget found with it, are those of a GPU, or of a CPU."""
        return self.rate is not None and (self.device != "cpu") == on_gpu

    def share(self, part: float) -> "Forecast":
        """Of a part of the rows."""
        counts = (self.tokens, self.computed_tokens, self.padded_tokens)
        tokens, computed, padded = (round(count * part) for count in counts)
        return replace(self, tokens=tokens, computed_tokens=computed, padded_tokens=padded)

    def description(self, price: float | None) -> dict[str, Any]:
        """Plain data; price: of a device-hour."""
        hours = self.device_hours
        return {
            **asdict(self),
            "device_hours": hours,
            "hours": hours / self.devices if hours is not None else None,
            "cost": cost(hours, price),
        }


def cost(device_hours: float | None, price: float | None) -> float | None:
    """None if either is not known."""
    return device_hours * price if device_hours is not None and price is not None else None

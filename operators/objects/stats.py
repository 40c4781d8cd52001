"""What a unit or a run answered, in numbers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypedDict

from distilray.model.metrics.counts import merge


class ParityCounts(TypedDict):
    """Of one task. rows: sampled and answered; positions: where its head decides; flips: positions where the two decide
    otherwise; difference: the largest between two logits, or components of an embedding."""

    rows: int
    positions: int
    flips: int
    difference: float


def add_parity(a: Mapping[str, ParityCounts], b: Mapping[str, ParityCounts]) -> dict[str, ParityCounts]:
    """Of the rows of both: counts add up, the larger difference counts."""
    return {name: _sum(a[name], b[name]) if name in a and name in b else {**a, **b}[name] for name in {**a, **b}}


def _sum(a: ParityCounts, b: ParityCounts) -> ParityCounts:
    return {
        "rows": a["rows"] + b["rows"],
        "positions": a["positions"] + b["positions"],
        "flips": a["flips"] + b["flips"],
        "difference": max(a["difference"], b["difference"]),
    }


@dataclass(frozen=True)
class Stats:
    """What a unit, or a run, answered. tokens: of the texts; computed_tokens: counted where the model runs;
    window_tokens: what the windows hold, [CLS] and [SEP] and overlaps included; truncated: rows by task;
    dead: rows by reason; labels: counts by task and label; backends: units by what computed them; parity: by task, how
    sampled rows compare with a float32 reference."""

    units: int = 0
    rows: int = 0
    tokens: int = 0
    window_tokens: int = 0
    computed_tokens: int = 0
    truncated: Mapping[str, int] = field(default_factory=dict)
    dead: Mapping[str, int] = field(default_factory=dict)
    labels: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    backends: Mapping[str, int] = field(default_factory=dict)
    parity: Mapping[str, ParityCounts] = field(default_factory=dict)

    @property
    def padding(self) -> int:
        """Token positions computed that hold no token."""
        return self.computed_tokens - self.window_tokens

    @property
    def dead_letters(self) -> int:
        return sum(self.dead.values())

    def __add__(self, other: "Stats") -> "Stats":
        mine, others = (
            {**vars(each), "parity": {}} for each in (self, other)
        )  # asdict would copy: dear with 100,000 units
        return Stats(**{**merge(mine, others), "parity": add_parity(self.parity, other.parity)})

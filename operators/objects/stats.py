"""The statistics of a unit or a run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypedDict

from distilray.model.metrics.counts import merge


class ParityCounts(TypedDict):
    """The parity of one task.

    rows: the rows that were sampled and answered. positions: the positions at which the head decides. flips: the
    positions at which the run and the reference decide differently. difference: the largest difference between two
    logits, or between two components of embeddings.
    """

    rows: int
    positions: int
    flips: int
    difference: float


def add_parity(a: Mapping[str, ParityCounts], b: Mapping[str, ParityCounts]) -> dict[str, ParityCounts]:
    """Add the parity of two sets of rows, by name of task. Counts are added. Of two differences, the larger is kept."""
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
    """The statistics of a unit or a run.

    rows: the answered rows. tokens: the tokens of the texts. window_tokens: the tokens of the windows, with [CLS],
    [SEP] and overlaps. computed_tokens: the tokens that the encoders computed. truncated: the truncated rows by task.
    dead: the dead rows by reason. labels: the counts by task and label. backends: the units by backend. parity: the
    comparison of sampled rows with a float32 reference, by task.
    """

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
        """The computed token positions that hold no token."""
        return self.computed_tokens - self.window_tokens

    @property
    def dead_letters(self) -> int:
        return sum(self.dead.values())

    def __add__(self, other: "Stats") -> "Stats":
        # vars instead of asdict, because deep copies are expensive with 100,000 units
        a, b = ({**vars(stats), "parity": {}} for stats in (self, other))
        return Stats(**{**merge(a, b), "parity": add_parity(self.parity, other.parity)})

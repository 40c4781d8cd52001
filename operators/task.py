"""What the operators need to know of a task: plain data that travels to the workers."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from distilray.model.attention import AttentionName
from distilray.model.checkpoint import Checkpoint
from distilray.model.decode.token_classification import Aggregation
from distilray.model.device import DtypeName


@dataclass(frozen=True)
class TaskSpec:
    """Token classification with one checkpoint. hf: Transformers' rules instead of ours.

    overlap: tokens that neighbouring windows share; None: our default, or, with hf, no windows (texts are cut).
    """

    name: str
    checkpoint: Checkpoint
    aggregation: Aggregation
    hf: bool
    overlap: int | None
    threshold: float
    thresholds: Mapping[str, float] = field(default_factory=dict)

    @property
    def cuts_texts(self) -> bool:
        """Whether texts longer than the model are cut, as Transformers does."""
        return self.hf and self.overlap is None


@dataclass(frozen=True)
class ComputeSpec:
    """How a worker computes. threads: CPU threads of a forward pass, None: torch's default."""

    dtype: DtypeName = "auto"
    attention: AttentionName = "auto"
    tokens_per_pack: int | None = None
    threads: int | None = None

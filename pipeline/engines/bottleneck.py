"""Where the time of a run went, and what would make the next one faster."""

from dataclasses import dataclass, fields

from distilray.operators.rows.timing import Seconds, Timing

_GOOD = 0.9  # of the predict workers' time computing: what is left is not worth a change
_BUSY = 0.6  # of its time at work: a stage that others wait for


@dataclass(frozen=True)
class TimeSpent(Seconds):
    """Of a run, summed over its units. workers: predict workers that computed one at least; idle: such a worker had done
    its last unit, and others had not."""

    units: int = 0
    workers: int = 0
    idle: float = 0.0

    @property
    def occupied(self) -> float:
        """Seconds that these workers were there, at work or not: what their devices cost."""
        return self.predict + self.starting + self.starved + self.held + self.idle


class StageTimes:
    """Sums what units took."""

    def __init__(self) -> None:
        self._sums = dict.fromkeys((field.name for field in fields(Seconds)), 0.0)
        self._last: dict[str, float] = {}  # when each predict worker finished a unit
        self._units = 0

    def add(self, timing: Timing) -> None:
        for name in self._sums:
            self._sums[name] += getattr(timing, name)
        self._last[timing.worker] = max(self._last.get(timing.worker, 0.0), timing.predicted)
        self._units += 1

    def spent(self) -> TimeSpent:
        """All units added so far."""
        end = max(self._last.values(), default=0.0)
        idle = sum(end - last for last in self._last.values())
        return TimeSpent(**self._sums, units=self._units, workers=len(self._last), idle=idle)


def shares(spent: TimeSpent) -> dict[str, float]:
    """What part of their time the predict workers spent on what; {} if no unit was computed."""
    names = {
        "computed": spent.predict,
        "waited for input": spent.starved,
        "waited to hand over": spent.held,
        "waited for their first unit": spent.starting,
        "idle at the end": spent.idle,
    }
    return {name: seconds / spent.occupied for name, seconds in names.items()} if spent.occupied else {}


def bottleneck(spent: TimeSpent) -> str:
    """What the predict workers did with their time."""
    said = [f"{name} {share:.0%}" for name, share in shares(spent).items() if share >= 0.005]
    return f"predict workers ({spent.workers}): {', '.join(said)}" if said else "no unit was computed"


def advice(spent: TimeSpent, devices: int, tokenizers: int, writers: int) -> str:
    """What to change, for so many predict workers and workers of the other stages; 0 of these: one process does it all,
    stage after stage."""
    if not spent.units:
        return "none, for no unit was computed"
    waits = {name: getattr(spent, name) for name in ("starved", "held", "starting", "idle")}
    worst = max(waits, key=lambda name: waits[name])
    good = spent.predict >= _GOOD * spent.occupied
    if spent.workers < devices or (worst in ("starting", "idle") and not good):
        return "few units for so many workers: a longer corpus fills them; else fewer workers, or a smaller compute.unit_bytes"
    if good:
        return "nothing to change: the device is the limit"
    if not tokenizers:
        return "stages take turns in the local engine: compute.engine ray reads, tokenizes and writes while it computes"
    span = spent.occupied / spent.workers
    if worst == "starved":
        if spent.tokenize >= _BUSY * tokenizers * span:
            return f"tokenizing is the limit: more than {tokenizers} tokenizers (compute.tokenize.max), and the CPUs for them"
        if spent.read >= _BUSY * span:  # one reader at least has been busy
            return "reading is the limit: a store nearer to the cluster, or more CPUs for readers"
    elif spent.write >= _BUSY * writers * span:
        return "writing is the limit: a store nearer to the cluster"
    return "handing units on is the limit: a larger compute.unit_bytes makes fewer of them"

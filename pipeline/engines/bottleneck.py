"""The time of a run by stage, the bottleneck, and advice on how to make the next run faster."""

from dataclasses import dataclass, fields

from distilray.operators.rows.timing import Seconds, Timing

_GOOD_SHARE = 0.9  # of the predict workers' time: if they compute for this share, no change is worth its effort
_BUSY_SHARE = 0.6  # of a stage's time: a stage that works for this share limits the other stages
_SHOWN_SHARE = 0.005  # of the predict workers' time: a smaller share would round to 0 %


@dataclass(frozen=True)
class TimeSpent(Seconds):
    """The seconds of a run, summed over its units.

    workers: predict workers that computed at least one unit. idle: seconds between the last unit of such a worker and
    the end of the last unit of the run.
    """

    units: int = 0
    workers: int = 0
    idle: float = 0.0

    @property
    def occupied(self) -> float:
        """The seconds in which these workers held their devices, busy or not. The cost is computed from this time."""
        return self.predict + self.starting + self.starved + self.held + self.idle


class StageTimes:
    """A sum of the timings of units."""

    def __init__(self) -> None:
        self._sums = dict.fromkeys((field.name for field in fields(Seconds)), 0.0)
        self._last: dict[str, float] = {}  # predict worker -> when it finished its last unit
        self._units = 0

    def add(self, timing: Timing) -> None:
        """Add the timing of one unit."""
        for name in self._sums:
            self._sums[name] += getattr(timing, name)
        self._last[timing.worker] = max(self._last.get(timing.worker, 0.0), timing.predicted)
        self._units += 1

    def spent(self) -> TimeSpent:
        """Return the sums over all units that were added."""
        end = max(self._last.values(), default=0.0)
        idle = sum(end - last for last in self._last.values())
        return TimeSpent(**self._sums, units=self._units, workers=len(self._last), idle=idle)


def shares(spent: TimeSpent) -> dict[str, float]:
    """Return the share of the predict workers' time by activity. It is empty if no unit was computed."""
    seconds_by_activity = {
        "computed": spent.predict,
        "waited for input": spent.starved,
        "waited to hand over": spent.held,
        "waited for their first unit": spent.starting,
        "idle at the end": spent.idle,
    }
    if not spent.occupied:
        return {}
    return {activity: seconds / spent.occupied for activity, seconds in seconds_by_activity.items()}


def bottleneck(spent: TimeSpent) -> str:
    """Return one line with the shares of the predict workers' time."""
    parts = [f"{activity} {share:.0%}" for activity, share in shares(spent).items() if share >= _SHOWN_SHARE]
    return f"predict workers ({spent.workers}): {', '.join(parts)}" if parts else "no unit was computed"


def advice(spent: TimeSpent, devices: int, tokenizers: int, writers: int) -> str:
    """Return one line of advice on how to make a run faster.

    devices: the number of predict workers. tokenizers, writers: the numbers of the other workers. They are 0 if one
    process runs all stages in turn.
    """
    if not spent.units:
        return "none: no unit was computed"
    waits = {name: getattr(spent, name) for name in ("starved", "held", "starting", "idle")}
    longest_wait = max(waits, key=lambda name: waits[name])
    good = spent.predict >= _GOOD_SHARE * spent.occupied
    if spent.workers < devices or (longest_wait in ("starting", "idle") and not good):
        return (
            "there are few units for so many workers: use a larger corpus, fewer workers, or a smaller "
            "compute.unit_bytes"
        )
    if good:
        return "nothing to change: the device is the limit"
    if not tokenizers:
        return (
            "the stages of the local engine run in turn: set compute.engine to ray, whose stages run at the same time"
        )
    seconds = spent.occupied / spent.workers
    if longest_wait == "starved":
        if spent.tokenize >= _BUSY_SHARE * tokenizers * seconds:
            return f"tokenizing is the limit: use more than {tokenizers} tokenizers (compute.tokenize.max) and CPUs"
        if spent.read >= _BUSY_SHARE * seconds:  # at least one reader was busy
            return "reading is the limit: use a store nearer to the cluster, or more CPUs for readers"
    elif spent.write >= _BUSY_SHARE * writers * seconds:
        return "writing is the limit: use a store nearer to the cluster"
    return "the handover of units is the limit: a larger compute.unit_bytes makes fewer units"

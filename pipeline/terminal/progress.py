"""How far a run is: one account of it, shown as a live view on a terminal, as plain lines, or as JSON lines."""

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from distilray.operators.objects.stats import Stats
from distilray.operators.write import Commit
from distilray.pipeline.engines.bottleneck import StageTimes, bottleneck
from distilray.pipeline.errors import JobError
from distilray.pipeline.terminal.modes import Mode

if TYPE_CHECKING:  # commands that only show results import no torch
    from distilray.pipeline.commands.run import RunStart

_EVERY = 30.0  # seconds between two lines at most
_STEP = 0.05  # of the rows: after so many a line comes sooner,
_SOONEST = 5.0  # but not within so many seconds of the one before
_WINDOW = 300.0  # seconds that the present speed is taken from: a unit is about a minute of a device
_FRAMES = 4  # of the live view, a second

Figures = dict[str, Any]


class Tally:
    """What a run has done so far; a thread that shows it may read it at any time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun: RunStart | None = None
        self._done, self._computed, self._clock = Stats(), Stats(), StageTimes()
        self._steps: deque[tuple[float, int, int]] = deque()  # when so many rows were done, and tokens of this run

    def start(self, start: "RunStart") -> None:
        """As `execute` and `retry` call it."""
        with self._lock:
            self._begun, self._done = start, start.done
            self._steps.append((time.monotonic(), _rows(start.done), 0))
            self._first = self._steps[0]

    def add(self, commit: Commit) -> None:
        """As `execute` and `retry` call it."""
        with self._lock:
            self._done += commit.stats
            self._computed += commit.stats
            self._clock.add(commit.timing)
            self._steps.append((time.monotonic(), _rows(self._done), self._computed.tokens))
            self._forget(self._steps[-1][0])

    def _forget(self, now: float) -> None:
        """What the present speed is not taken from; one step before it is its beginning."""
        while len(self._steps) > 1 and self._steps[1][0] < now - _WINDOW:
            self._steps.popleft()

    def figures(self, *, ended: bool = False) -> Figures | None:
        """The keys of JSON lines, but for `event`; None before `start`. Speed is the present one, of an ended run the mean."""
        with self._lock:
            if self._begun is None:
                return None
            begun, now = self._begun, time.monotonic()
            self._forget(now)
            since, rows, tokens = self._first if ended else self._steps[0]
            seconds = max(now - since, 1e-9)
            pace = (_rows(self._done) - rows) / seconds
            left = begun.rows - _rows(self._done)
            spent = self._clock.spent()
            return {
                "time": datetime.now(UTC).isoformat(timespec="seconds"),
                "seconds": round(now - self._first[0], 1),
                "rows_planned": begun.rows,
                "rows_done": _rows(self._done),
                "units_planned": begun.units,
                "units_done": self._done.units,
                "dead": dict(self._done.dead),
                "tokens": self._computed.tokens,
                "computed_tokens": self._computed.computed_tokens,
                "tokens_per_second": round((self._computed.tokens - tokens) / seconds, 1),
                "seconds_left": round(left / pace, 1) if pace else None,
                "workers": {name: asdict(actors) for name, actors in begun.actors().items()},
                "timing": {name: round(value, 3) for name, value in asdict(spent).items()},
                "bottleneck": bottleneck(spent) if spent.units else None,
            }


def _rows(stats: Stats) -> int:
    return stats.rows + stats.dead_letters


@contextmanager
def watching(console: Console, mode: Mode) -> Iterator["Tally | _Lines"]:
    """What `execute` and `retry` tell of their work, by its methods `start` and `add`, is shown while this is open.

    auto: live on a terminal, lines elsewhere. Raises JobError if `live` has no terminal.
    """
    if mode == "live" and not console.is_interactive:
        raise JobError("progress: live needs a terminal, and there is none; use auto, lines, json or none")
    if mode == "auto":
        mode = "live" if console.is_interactive else "lines"
    tally = Tally()
    if mode == "none":
        yield tally
    elif mode == "live":
        with Live(
            get_renderable=lambda: _view(tally.figures()), console=console, refresh_per_second=_FRAMES, transient=True
        ):
            yield tally
    else:
        shown = _json if mode == "json" else _line
        lines = _Lines(tally, lambda event, figures: console.out(shown(event, figures), highlight=False))
        with lines.open():
            yield lines


class _Lines:
    """A line at the start, one at the end, and between them as often as `_EVERY`, `_STEP` and `_SOONEST` say."""

    def __init__(self, tally: Tally, show: Callable[[str, Figures], None]) -> None:
        self._tally, self._show = tally, show
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._said, self._rows = 0.0, 0  # when, and of how many rows, the last line was
        self._beat = threading.Thread(target=self._beats, daemon=True)

    def start(self, start: "RunStart") -> None:
        self._tally.start(start)
        self._tell("start")
        self._step = max(start.rows * _STEP, 1)
        self._beat.start()

    def add(self, commit: Commit) -> None:
        self._tally.add(commit)
        self._tell("progress", lambda figures: figures["rows_done"] - self._rows >= self._step, _SOONEST)

    @contextmanager
    def open(self) -> Iterator[None]:
        """Ends with a line that says whether the run came to its end."""
        event = "stopped"
        try:
            yield
            event = "end"
        finally:
            self._ended.set()
            if self._beat.is_alive():
                self._beat.join()
            self._tell(event)

    def _beats(self) -> None:
        while not self._ended.wait(max(self._said + _EVERY - time.monotonic(), 0)):
            self._tell("progress", after=_EVERY)

    def _tell(self, event: str, due: Callable[[Figures], bool] = lambda _: True, after: float = 0) -> None:
        """If it is due, and so many seconds after the last one."""
        with self._lock:
            if time.monotonic() < self._said + after:
                return
            figures = self._tally.figures(ended=event in ("end", "stopped"))
            if figures is not None and due(figures):
                self._said, self._rows = time.monotonic(), figures["rows_done"]
                self._show(event, figures)


def _json(event: str, figures: Mapping[str, Any]) -> str:
    return json.dumps({"event": event, **figures}, allow_nan=False)


def _line(event: str, figures: Figures) -> str:
    return f"distilray {_clock(figures['seconds'])} {event}: {', '.join(_words(figures))}{_reason(figures)}"


def _view(figures: Figures | None) -> Group | Text:
    """The bar, and what does not fit beside it below."""
    if figures is None:
        return Text("distilray: starting")
    done, *others = _words(figures)
    top = Table.grid(padding=(0, 1))
    bar = ProgressBar(max(figures["rows_planned"], 1), figures["rows_done"], width=30)
    top.add_row(f"distilray {_clock(figures['seconds'])}", bar, done)
    return Group(top, Text(", ".join(others) + _reason(figures), style="dim"))


def _words(figures: Figures) -> Iterator[str]:
    """The same for a person."""
    planned, done = figures["rows_planned"], figures["rows_done"]
    yield f"{done:,} of {planned:,} rows ({done / max(planned, 1):.0%})"
    yield f"{figures['units_done']:,} of {figures['units_planned']:,} units"
    if figures["tokens"]:
        yield f"{figures['tokens_per_second']:,.0f} tokens/s"
    if figures["seconds_left"] is not None and done < planned:
        yield f"{_clock(figures['seconds_left'])} left"
    dead = ", ".join(f"{reason} {rows:,}" for reason, rows in figures["dead"].items())
    yield f"dead letters: {dead or 'none'}"
    for stage, actors in figures["workers"].items():
        waiting = f", {actors['waiting']} waiting for a place" if actors["waiting"] else ""
        yield f"{stage} {actors['busy']} of {actors['running']} busy{waiting}"


def _reason(figures: Figures) -> str:
    """What the speed is limited by so far."""
    return f"; {figures['bottleneck']}" if figures["bottleneck"] else ""


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))

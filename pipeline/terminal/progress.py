"""The progress of a run, shown as a live view on a terminal, as plain lines, or as JSON lines."""

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

if TYPE_CHECKING:  # commands that only show results must not import torch
    from distilray.pipeline.commands.run import RunStart

_MAX_INTERVAL = 30.0  # seconds between two lines
_ROW_STEP = 0.05  # a share of the rows: once so many more are done, a line comes before _MAX_INTERVAL
_MIN_INTERVAL = 5.0  # seconds between the previous line and such an early line
_SPEED_WINDOW = 300.0  # seconds over which the current speed is measured: a unit takes a device about a minute
_FRAMES = 4  # redraws of the live view per second

Figures = dict[str, Any]


class RunProgress:
    """The counts of a run so far. Any thread may read them at any time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._run: RunStart | None = None
        self._done, self._computed, self._stage_times = Stats(), Stats(), StageTimes()
        self._history: deque[tuple[float, int, int]] = deque()  # time, rows done, tokens that this run computed

    def start(self, start: "RunStart") -> None:
        """Record the start of a run. `execute` and `retry` call it."""
        with self._lock:
            self._run, self._done = start, start.done
            self._history.append((time.monotonic(), _rows(start.done), 0))
            self._first = self._history[0]

    def add(self, commit: Commit) -> None:
        """Add the counts of a commit. `execute` and `retry` call it."""
        with self._lock:
            self._done += commit.stats
            self._computed += commit.stats
            self._stage_times.add(commit.timing)
            self._history.append((time.monotonic(), _rows(self._done), self._computed.tokens))
            self._trim_history(self._history[-1][0])

    def _trim_history(self, now: float) -> None:
        """Drop the entries before the speed window, but keep the newest of them. The speed is measured from it."""
        while len(self._history) > 1 and self._history[1][0] < now - _SPEED_WINDOW:
            self._history.popleft()

    def figures(self, *, ended: bool = False) -> Figures | None:
        """Return the keys of a JSON line, without `event`, or None before `start`.

        ended: whether the run has ended. If it has, the speed is the mean of the whole run, else of the speed window.
        """
        with self._lock:
            if self._run is None:
                return None
            run, now = self._run, time.monotonic()
            self._trim_history(now)
            since, rows, tokens = self._first if ended else self._history[0]
            seconds = max(now - since, 1e-9)
            rows_per_second = (_rows(self._done) - rows) / seconds
            rows_left = run.rows - _rows(self._done)
            spent = self._stage_times.spent()
            return {
                "time": datetime.now(UTC).isoformat(timespec="seconds"),
                "seconds": round(now - self._first[0], 1),
                "rows_planned": run.rows,
                "rows_done": _rows(self._done),
                "units_planned": run.units,
                "units_done": self._done.units,
                "dead": dict(self._done.dead),
                "tokens": self._computed.tokens,
                "computed_tokens": self._computed.computed_tokens,
                "tokens_per_second": round((self._computed.tokens - tokens) / seconds, 1),
                "seconds_left": round(rows_left / rows_per_second, 1) if rows_per_second else None,
                "workers": {name: asdict(actors) for name, actors in run.actors().items()},
                "timing": {name: round(value, 3) for name, value in asdict(spent).items()},
                "bottleneck": bottleneck(spent) if spent.units else None,
            }


def _rows(stats: Stats) -> int:
    return stats.rows + stats.dead_letters


@contextmanager
def show_progress(console: Console, mode: Mode) -> Iterator["RunProgress | _ProgressLines"]:
    """Show the progress of a run while the context is open.

    Pass the methods `start` and `add` of the yielded object to `execute` or `retry`. mode: `auto` means `live` on a
    terminal and `lines` elsewhere. Raises JobError if the mode is `live` and the console is no terminal.
    """
    if mode == "live" and not console.is_interactive:
        raise JobError("progress: live needs a terminal, and the output is not one; use auto, lines, json or none")
    if mode == "auto":
        mode = "live" if console.is_interactive else "lines"
    progress = RunProgress()
    if mode == "none":
        yield progress
    elif mode == "live":
        with Live(
            get_renderable=lambda: _live_view(progress.figures()),
            console=console,
            refresh_per_second=_FRAMES,
            transient=True,
        ):
            yield progress
    else:
        render = _json_line if mode == "json" else _text_line
        lines = _ProgressLines(progress, lambda event, figures: console.out(render(event, figures), highlight=False))
        with lines.open():
            yield lines


class _ProgressLines:
    """Printer of progress lines: one at the start, one at the end, and lines between them.

    A line between them comes after `_MAX_INTERVAL` seconds. It comes earlier if `_ROW_STEP` of the rows are done, but
    not within `_MIN_INTERVAL` seconds of the previous line.
    """

    def __init__(self, progress: RunProgress, show: Callable[[str, Figures], None]) -> None:
        self._progress, self._show = progress, show
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._last_time, self._last_rows = 0.0, 0  # of the last line
        self._timer = threading.Thread(target=self._show_periodically, daemon=True)

    def start(self, start: "RunStart") -> None:
        self._progress.start(start)
        self._show_if_due("start")
        self._step = max(start.rows * _ROW_STEP, 1)
        self._timer.start()

    def add(self, commit: Commit) -> None:
        self._progress.add(commit)
        self._show_if_due(
            "progress", lambda figures: figures["rows_done"] - self._last_rows >= self._step, _MIN_INTERVAL
        )

    @contextmanager
    def open(self) -> Iterator[None]:
        """Show lines while the context is open. The last line has the event `end`, or `stopped` after an exception."""
        event = "stopped"
        try:
            yield
            event = "end"
        finally:
            self._ended.set()
            if self._timer.is_alive():
                self._timer.join()
            self._show_if_due(event)

    def _show_periodically(self) -> None:
        while not self._ended.wait(max(self._last_time + _MAX_INTERVAL - time.monotonic(), 0)):
            self._show_if_due("progress", after=_MAX_INTERVAL)

    def _show_if_due(self, event: str, due: Callable[[Figures], bool] = lambda _: True, after: float = 0) -> None:
        """Show a line if `due` returns true for its figures and `after` seconds have passed since the last line."""
        with self._lock:
            if time.monotonic() < self._last_time + after:
                return
            figures = self._progress.figures(ended=event in ("end", "stopped"))
            if figures is not None and due(figures):
                self._last_time, self._last_rows = time.monotonic(), figures["rows_done"]
                self._show(event, figures)


def _json_line(event: str, figures: Mapping[str, Any]) -> str:
    return json.dumps({"event": event, **figures}, allow_nan=False)


def _text_line(event: str, figures: Figures) -> str:
    return f"distilray {_clock(figures['seconds'])} {event}: {', '.join(_phrases(figures))}{_bottleneck(figures)}"


def _live_view(figures: Figures | None) -> Group | Text:
    """Return the live view: a bar with the rows beside it, and the other figures below it."""
    if figures is None:
        return Text("distilray: starting")
    rows, *others = _phrases(figures)
    top = Table.grid(padding=(0, 1))
    bar = ProgressBar(max(figures["rows_planned"], 1), figures["rows_done"], width=30)
    top.add_row(f"distilray {_clock(figures['seconds'])}", bar, rows)
    return Group(top, Text(", ".join(others) + _bottleneck(figures), style="dim"))


def _phrases(figures: Figures) -> Iterator[str]:
    """Yield the figures as short phrases, rows first."""
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
        waiting = f", {actors['waiting']} waiting for resources" if actors["waiting"] else ""
        yield f"{stage} {actors['busy']} of {actors['running']} busy{waiting}"


def _bottleneck(figures: Figures) -> str:
    """Return what limits the speed so far, as the end of a line."""
    return f"; {figures['bottleneck']}" if figures["bottleneck"] else ""


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))

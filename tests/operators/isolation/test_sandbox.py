"""A unit that ended its worker runs again in a sandbox.

The tests check which rows are rejected, which are answered, and when the run stops because no row is the cause.
"""

import ctypes
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from distilray.operators.errors import SandboxError
from distilray.operators.isolated_read import read_isolated
from distilray.operators.isolation import sandbox
from distilray.operators.isolation import watchdog as deadline
from distilray.operators.isolation.attempts import Isolation
from distilray.operators.isolation.isolated_call import call_in_sandbox
from distilray.operators.isolation.sandbox import Sandbox, SandboxDiedError
from distilray.operators.isolation.watchdog import Watchdog
from distilray.operators.read import Read
from distilray.operators.rows import schema as s
from distilray.operators.rows.unit import Unit
from tests.operators.harness import rows
from tests.support import write_shard

Outcome = Callable[[list[str]], str | None]  # the reason why the process ends for texts in one call, or None


def uppercase(table: pa.Table) -> pa.Table:
    """Answer each text with its uppercase form."""
    return table.append_column("answer", pc.utf8_upper(table[s.TEXT]))


@pytest.fixture
def call_rows(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[tuple[str | None, str | None]]]:
    """A function that returns the answers and reasons of texts. outcome: it decides when the process ends."""

    def call(texts: list[str], outcome: Outcome, **options: object) -> list[tuple[str | None, str | None]]:
        def ask(_: Sandbox, part: pa.Table) -> pa.Table:
            if reason := outcome(part[s.TEXT].to_pylist()):
                raise SandboxDiedError(reason, "ended")
            return uppercase(part)

        monkeypatch.setattr(Sandbox, "ask", ask)
        table = call_in_sandbox(rows(texts), "predict", uppercase, lambda: uppercase, **options)
        return list(zip(table["answer"].to_pylist(), table[s.DEAD_REASON].to_pylist(), strict=True))

    return call


@pytest.mark.parametrize(
    "poison", [{0}, {199}, {0, 199}, {63}, {64}, {63, 64}, {5, 6, 7}, set(range(20, 29)), set(range(0, 60, 2))]
)
def test_exactly_the_poison_rows_are_rejected(call_rows: Callable, poison: set[int]) -> None:
    texts = [f"p{i}" if i in poison else f"t{i}" for i in range(200)]
    result = call_rows(texts, lambda part: "crash" if any(text[0] == "p" for text in part) else None)
    assert result == [(None, "crash") if i in poison else (text.upper(), None) for i, text in enumerate(texts)]


def test_rows_that_crash_only_together_are_answered(call_rows: Callable) -> None:
    result = call_rows(["a", "b", "c"], lambda part: "crash" if {"a", "b"} <= set(part) else None)
    assert result == [("A", None), ("B", None), ("C", None)]


@pytest.mark.parametrize(("reason", "attempts"), [("crash", 2), ("out_of_memory", 2), ("timeout", 1)])
def test_a_single_row_is_rejected_after_two_crashes_or_one_timeout(
    call_rows: Callable, reason: str, attempts: int
) -> None:
    for ends in (attempts, attempts - 1):
        reasons = iter([reason] * (1 + ends))  # the first one is for the whole part
        result = call_rows(["a", "b"], lambda part, reasons=reasons: next(reasons, None) if "a" in part else None)
        assert result == [(None, reason) if ends == attempts else ("A", None), ("B", None)]


def test_consecutive_crashes_are_an_error(call_rows: Callable) -> None:
    """A broken device, or memory that other processes use, ends the process for any row."""
    texts = [f"t{i}" for i in range(100)]

    def fail_after(count: int) -> Outcome:
        return lambda part: None if set(part) <= set(texts[:count]) else "crash"

    for count in (0, 70, 90):
        with pytest.raises(
            SandboxError, match="predict: 10 consecutive rows each ended .* the last one: ended; check the mem"
        ):
            call_rows(texts, fail_after(count))
    assert [row for row, (_, reason) in enumerate(call_rows(texts, fail_after(91))) if reason] == list(range(91, 100))
    unlimited = call_rows(texts, fail_after(70), max_failed_rows=None)  # the limit of the user applies instead
    assert sum(reason is not None for _, reason in unlimited) == 30


def test_the_deadline_does_not_cover_requests_to_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that stalls must not turn valid rows into dead letters."""
    armed: list[bool] = [False]
    monkeypatch.setattr(deadline.faulthandler, "dump_traceback_later", lambda *_, **__: armed.__setitem__(0, True))
    monkeypatch.setattr(deadline.faulthandler, "cancel_dump_traceback_later", lambda: armed.__setitem__(0, False))
    armed_during: dict[str, set[bool]] = {"store": set(), "decoding": set()}

    def record(activity: str, call: Callable, *args: object) -> object:
        armed_during[activity].add(armed[0])
        return call(*args)

    from distilray.operators import read
    from distilray.operators.objects import watched_file

    monkeypatch.setattr(watched_file, "read_exactly", partial(record, "store", watched_file.read_exactly))
    monkeypatch.setattr(read, "inputs_of", partial(record, "decoding", read.inputs_of))
    unit = shard(tmp_path, ["a", "b", "c"])
    assert len(reader(deadline=9)(unit)) == 3
    assert armed_during == {"store": {False}, "decoding": {True}}
    assert not armed[0]


def shard(folder: Path, texts: list[str]) -> Unit:
    path = write_shard(folder / "shard.parquet", texts)
    return Unit("unit", str(path), str(path.stat().st_size), (0, 1), 0, 0, len(texts))


def reader(**options: float) -> Read:
    return Read("text", pa.schema([]), pa.schema([]), pa.schema([]), **options)


# tests with real processes


def make_worker() -> Callable[[str], str]:
    """Return a worker function for the process. It executes commands."""
    watchdog = Watchdog(1)

    def execute(command: str) -> str:
        match command:
            case "hold the lock":
                with watchdog:
                    ctypes.PyDLL(None).sleep(60)
            case "fork":
                if os.fork() == 0:
                    time.sleep(60)
                os._exit(0)
            case "close":
                os.closerange(3, 1000)
            case "print":
                os.write(1, b"not an answer\n")
            case "take memory":
                blocks = [bytes(2**26)]
                while True:
                    blocks.append(b"x" * 2**26)
            case "kill":
                os.kill(os.getpid(), signal.SIGTERM)
        return command

    return execute


@pytest.mark.slow
def test_a_process_that_hangs_is_replaced() -> None:
    with Sandbox("test", make_worker, 1) as process:
        with pytest.raises(SandboxDiedError, match=r"no progress within compute\.deadline") as ended:
            process.ask("hold the lock")
        assert ended.value.reason == "timeout"
        assert process.ask("hello") == "hello"


@pytest.mark.slow
def test_a_process_that_ends_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "free_memory", lambda: 0.0)
    monkeypatch.setattr(sandbox, "_MIN_MEMORY", 2.0**28)  # other processes use the memory of this machine, too
    with Sandbox("test", make_worker, 60) as process:
        assert process.ask("print") == "print"
        for command, reason, message in (
            ("fork", "crash", "exit code 0"),
            ("close", "crash", "exit code"),
            ("take memory", "out_of_memory", "more than half of the memory"),
            ("kill", "crash", "SIGTERM"),
        ):
            with pytest.raises(SandboxDiedError, match=message) as ended:
                process.ask(command)
            assert ended.value.reason == reason
            assert process.ask("hello") == "hello"


@pytest.mark.slow
def test_a_store_that_stalls_beyond_the_deadline_rejects_no_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site/slow").mkdir(parents=True)
    (tmp_path / "site/sitecustomize.py").write_text(
        "import time\nfrom fsspec.implementations.local import LocalFileOpener\nread = LocalFileOpener.read\n"
        "LocalFileOpener.read = lambda *args: (time.sleep(3), read(*args))[1]\n"
    )
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setenv("DISTILRAY_CACHE", str(tmp_path))
    isolation = Isolation("run", deadline=2)
    (tmp_path / "begun/run").mkdir(parents=True)
    (tmp_path / "begun/run/read-unit").touch()  # the mark of a reader that was killed
    unit = shard(tmp_path, ["a", "b"])
    assert read_isolated(reader(), isolation, unit)[s.DEAD_REASON].null_count == 2

"""A unit that brought its worker down, taken apart: who is dead of it, who is not, and when the fault is nobody's row."""

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
from distilray.operators.isolated_read import read_guarded
from distilray.operators.isolation import sandbox
from distilray.operators.isolation import watchdog as deadline
from distilray.operators.isolation.bisect import Isolation
from distilray.operators.isolation.sandbox import Sandbox, SandboxDiedError, call_in_sandbox
from distilray.operators.isolation.watchdog import Watchdog
from distilray.operators.read import Read
from distilray.operators.rows import schema as s
from distilray.operators.rows.unit import Unit
from tests.operators.harness import rows
from tests.support import write_shard

Deaths = Callable[[list[str]], str | None]  # of the texts that are asked together: a reason


def called(table: pa.Table) -> pa.Table:
    """An operator that answers."""
    return table.append_column("answer", pc.utf8_upper(table[s.TEXT]))


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[tuple[str | None, str | None]]]:
    """Answers and reasons of texts, in a process that dies as `deaths` says."""

    def take_apart(texts: list[str], rejections: Deaths, **options: object) -> list[tuple[str | None, str | None]]:
        def ask(_: Sandbox, part: pa.Table) -> pa.Table:
            if reason := rejections(part[s.TEXT].to_pylist()):
                raise SandboxDiedError(reason, "ended")
            return called(part)

        monkeypatch.setattr(Sandbox, "ask", ask)
        table = call_in_sandbox(rows(texts), "predict", called, lambda: called, **options)
        return list(zip(table["answer"].to_pylist(), table[s.DEAD_REASON].to_pylist(), strict=True))

    return take_apart


@pytest.mark.parametrize(
    "poison", [{0}, {199}, {0, 199}, {63}, {64}, {63, 64}, {5, 6, 7}, set(range(20, 29)), set(range(0, 60, 2))]
)
def test_poison_is_dead_wherever_it_lies_and_nobody_else_is(apart: Callable, poison: set[int]) -> None:
    texts = [f"p{i}" if i in poison else f"t{i}" for i in range(200)]
    found = apart(texts, lambda part: "crash" if any(text[0] == "p" for text in part) else None)
    assert found == [(None, "crash") if i in poison else (text.upper(), None) for i, text in enumerate(texts)]


def test_rows_that_crash_in_company_only_are_answered(apart: Callable) -> None:
    found = apart(["a", "b", "c"], lambda part: "crash" if {"a", "b"} <= set(part) else None)
    assert found == [("A", None), ("B", None), ("C", None)]


@pytest.mark.parametrize(("reason", "tries"), [("crash", 2), ("out_of_memory", 2), ("timeout", 1)])
def test_a_row_alone_is_dead_after_a_second_death_or_one_without_progress(
    apart: Callable, reason: str, tries: int
) -> None:
    for rejections in (tries, tries - 1):
        left = iter([reason] * (1 + rejections))  # one of the part
        found = apart(["a", "b"], lambda part, left=left: next(left, None) if "a" in part else None)
        assert found == [(None, reason) if rejections == tries else ("A", None), ("B", None)]


def test_rows_that_die_one_after_another_are_not_to_blame(apart: Callable) -> None:
    """A device that is broken, or memory that others took, kills whoever comes."""
    texts = [f"t{i}" for i in range(100)]

    def broken_after(healthy: int) -> Deaths:
        return lambda part: None if set(part) <= set(texts[:healthy]) else "crash"

    for healthy in (0, 70, 90):
        with pytest.raises(
            SandboxError, match="predict: 10 consecutive rows each ended .* the last one: ended; check the mem"
        ):
            apart(texts, broken_after(healthy))
    assert [row for row, (_, reason) in enumerate(apart(texts, broken_after(91))) if reason] == list(range(91, 100))
    allowed = apart(texts, broken_after(70), max_failed_rows=None)  # the user has said how many may die
    assert sum(reason is not None for _, reason in allowed) == 30


def test_no_time_runs_out_while_the_store_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that stalls must not make healthy rows dead letters."""
    armed: list[bool] = [False]
    monkeypatch.setattr(deadline.faulthandler, "dump_traceback_later", lambda *_, **__: armed.__setitem__(0, True))
    monkeypatch.setattr(deadline.faulthandler, "cancel_dump_traceback_later", lambda: armed.__setitem__(0, False))
    seen: dict[str, set[bool]] = {"store": set(), "decoding": set()}

    def look(where: str, call: Callable, *args: object) -> object:
        seen[where].add(armed[0])
        return call(*args)

    from distilray.operators import read
    from distilray.operators.objects import watched_file

    monkeypatch.setattr(watched_file, "read_exactly", partial(look, "store", watched_file.read_exactly))
    monkeypatch.setattr(read, "inputs_of", partial(look, "decoding", read.inputs_of))
    unit = shard(tmp_path, ["a", "b", "c"])
    assert len(reader(deadline=9)(unit)) == 3
    assert seen == {"store": {False}, "decoding": {True}}
    assert not armed[0]


def shard(folder: Path, texts: list[str]) -> Unit:
    path = write_shard(folder / "shard.parquet", texts)
    return Unit("unit", str(path), str(path.stat().st_size), (0, 1), 0, 0, len(texts))


def reader(**options: float) -> Read:
    return Read("text", pa.schema([]), pa.schema([]), pa.schema([]), **options)


# processes as they are


def echo() -> Callable[[str], str]:
    """A worker that does what it is told; runs in the process."""
    said = Watchdog(1)

    def do(what: str) -> str:
        match what:
            case "hold the lock":
                with said:
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
                held = [bytes(2**26)]
                while True:
                    held.append(b"x" * 2**26)
            case "kill":
                os.kill(os.getpid(), signal.SIGTERM)
        return what

    return do


@pytest.mark.slow
def test_a_process_that_hangs_in_any_way_is_noticed_and_another_answers() -> None:
    with Sandbox("test", echo, 1) as process:
        with pytest.raises(SandboxDiedError, match=r"no progress within compute\.deadline") as died:
            process.ask("hold the lock")
        assert died.value.reason == "timeout"
        assert process.ask("hello") == "hello"


@pytest.mark.slow
def test_a_process_that_dies_in_any_way_is_noticed_and_another_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "free_memory", lambda: 0.0)
    monkeypatch.setattr(sandbox, "_MIN_MEMORY", 2.0**28)  # this machine's memory is others', too
    with Sandbox("test", echo, 60) as process:
        assert process.ask("print") == "print"
        for what, reason, says in (
            ("fork", "crash", "exit code 0"),
            ("close", "crash", "exit code"),
            ("take memory", "out_of_memory", "more than half of the memory"),
            ("kill", "crash", "SIGTERM"),
        ):
            with pytest.raises(SandboxDiedError, match=says) as died:
                process.ask(what)
            assert died.value.reason == reason
            assert process.ask("hello") == "hello"


@pytest.mark.slow
def test_a_store_that_stalls_longer_than_the_deadline_kills_no_rows(
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
    (tmp_path / "begun/run/read-unit").touch()  # a reader that somebody killed
    unit = shard(tmp_path, ["a", "b"])
    assert read_guarded(reader(), isolation, unit)[s.DEAD_REASON].null_count == 2

"""The runner of fuzz cases. Cases run in child processes that may crash, with limits of memory and time."""

import multiprocessing
import resource
import signal
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz.targets import DOCUMENTED, TARGETS

MEMORY = 256 * 2**20  # bytes that a case may add to the memory of the process
ADDRESS_SPACE = 4 * 2**30  # bytes beyond the memory of the process after its imports
SECONDS = 20.0  # CPU time of one case
_MEMORY_ERRORS = (
    "MemoryError",
    "bad_alloc",
    "not enough memory",
    "Cannot allocate",
    "malloc of size",
    "realloc of size",
)
_CONTEXT = multiprocessing.get_context("forkserver")  # imports take seconds, and many children crash
_CONTEXT.set_forkserver_preload(["tests.fuzz.targets"])


@dataclass(frozen=True)
class Defect:
    """A case with a wrong end. `python -m tests.fuzz --only TARGET --first CASE --count 1` runs it again."""

    target: str
    case: int
    problem: str


def generator_of(seed: int, target: str, case: int) -> Random:
    """Return the random number generator of a case."""
    return Random(f"{seed}:{target}:{case}")


def cases(target: str, seed: int, numbers: range, folder: Path) -> Iterator[tuple[Counter[str], list[Defect]]]:
    """Run the cases in a child process, and in a new one after each crash.

    Yields the number of cases by kind and the defects of each child.
    """
    while numbers:
        receiving, sending = _CONTEXT.Pipe(duplex=False)
        child = _CONTEXT.Process(target=_run_in_child, args=(target, seed, numbers, folder, sending))
        child.start()
        sending.close()
        counts, defects, last = Counter[str](), list[Defect](), numbers.start - numbers.step
        try:
            while receiving.poll(6 * SECONDS):
                kind, last, problem = receiving.recv()
                if kind == "defect":
                    defects.append(Defect(target, last, problem))
                elif kind != "begin":
                    counts[kind] += 1
            child.kill()  # no message for two minutes
        except EOFError:
            pass
        child.join()
        if child.exitcode:
            end = signal.Signals(-child.exitcode).name if child.exitcode < 0 else f"exit code {child.exitcode}"
            defects.append(Defect(target, last, f"ended the process: {end}"))
        yield counts, defects
        numbers = range(last + numbers.step, numbers.stop, numbers.step) if child.exitcode else range(0)


def _run_in_child(target: str, seed: int, numbers: range, folder: Path, pipe: Any) -> None:
    """Run the cases and send the begin and the result of each through the pipe."""
    import torch

    torch.set_num_threads(1)
    run = TARGETS[target][1](folder)
    used = resource.getpagesize() * int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (used + ADDRESS_SPACE, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for case in numbers:
        pipe.send(("begin", case, ""))
        kind, problem = run_case(run, generator_of(seed, target, case))
        pipe.send((kind, case, problem))


def run_case(run: Any, draw: Random) -> tuple[str, str]:
    """Run a case. Return "good", "refused" or "defect", and the problem of a defect."""
    _reset_peak_memory()
    before = _status("VmRSS")
    signal.setitimer(signal.ITIMER_PROF, SECONDS)  # its signal ends the process
    try:
        run(draw)
        kind, problem = "good", ""
    except DOCUMENTED as error:
        out_of_memory = any(word in str(error) for word in _MEMORY_ERRORS)
        kind, problem = ("defect", f"memory: {error}") if out_of_memory else ("refused", "")
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)[-4:]
        path = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
        kind, problem = "defect", f"{type(error).__name__}: {str(error)[:200]} ({path})"
    signal.setitimer(signal.ITIMER_PROF, 0)
    if (grown := _status("VmHWM") - before) > MEMORY:
        kind, problem = "defect", f"{grown >> 20} MiB of memory; {kind} {problem}"
    return kind, problem


def _reset_peak_memory() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _status(name: str) -> int:
    """Return the bytes that a line of /proc/self/status states."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) * 1024

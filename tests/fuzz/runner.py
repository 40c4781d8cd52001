"""Cases in processes that may die: each is given little memory and time, and what ends it is recorded with its number."""

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

MEMORY = 256 * 2**20  # bytes that a case may add to what the process has
ROOM = 4 * 2**30  # of address space beyond what the process has after its imports
SECONDS = 20.0  # of a CPU, for one case
_UNMENDED = ("MemoryError", "bad_alloc", "not enough memory", "Cannot allocate", "malloc of size", "realloc of size")
_CONTEXT = multiprocessing.get_context("forkserver")  # imports take seconds, and many children die
_CONTEXT.set_forkserver_preload(["tests.fuzz.targets"])


@dataclass(frozen=True)
class Defect:
    """A case to run again: `python -m tests.fuzz --only TARGET --first CASE --count 1`."""

    target: str
    case: int
    problem: str


def draw_of(seed: int, target: str, case: int) -> Random:
    return Random(f"{seed}:{target}:{case}")


def cases(target: str, seed: int, numbers: range, folder: Path) -> Iterator[tuple[Counter[str], list[Defect]]]:
    """Runs the cases in a child, and in another one after each that ends it; yields what each child found."""
    while numbers:
        receiving, sending = _CONTEXT.Pipe(duplex=False)
        child = _CONTEXT.Process(target=_work, args=(target, seed, numbers, folder, sending))
        child.start()
        sending.close()
        counts, defects, last = Counter[str](), list[Defect](), numbers.start - numbers.step
        try:
            while receiving.poll(6 * SECONDS):
                kind, last, said = receiving.recv()
                if kind == "defect":
                    defects.append(Defect(target, last, said))
                elif kind != "begin":
                    counts[kind] += 1
            child.kill()  # silent for minutes
        except EOFError:
            pass
        child.join()
        if child.exitcode:
            ended = signal.Signals(-child.exitcode).name if child.exitcode < 0 else f"exit code {child.exitcode}"
            defects.append(Defect(target, last, f"ended the process: {ended}"))
        yield counts, defects
        numbers = range(last + numbers.step, numbers.stop, numbers.step) if child.exitcode else range(0)


def _work(target: str, seed: int, numbers: range, folder: Path, pipe: Any) -> None:
    import torch

    torch.set_num_threads(1)
    run = TARGETS[target][1](folder)
    used = resource.getpagesize() * int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for case in numbers:
        pipe.send(("begin", case, ""))
        kind, said = run_case(run, draw_of(seed, target, case))
        pipe.send((kind, case, said))


def run_case(run: Any, draw: Random) -> tuple[str, str]:
    """good, refused or defect, and what is wrong."""
    _forget_peak()
    before = _status("VmRSS")
    signal.setitimer(signal.ITIMER_PROF, SECONDS)  # its signal ends the process
    try:
        run(draw)
        kind, said = "good", ""
    except DOCUMENTED as error:
        unmended = any(word in str(error) for word in _UNMENDED)
        kind, said = ("defect", f"memory: {error}") if unmended else ("refused", "")
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-4:]
        path = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(where))
        kind, said = "defect", f"{type(error).__name__}: {str(error)[:200]} ({path})"
    signal.setitimer(signal.ITIMER_PROF, 0)
    if (grown := _status("VmHWM") - before) > MEMORY:
        kind, said = "defect", f"{grown >> 20} MiB of memory; {kind} {said}"
    return kind, said


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _status(name: str) -> int:
    """Bytes of a line of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) * 1024

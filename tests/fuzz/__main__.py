"""The fuzzer: `python -m tests.fuzz --count 100000` reads mutated files of every kind.

The exit code is 1 if a case ends in anything but success or a documented error.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fuzz.runner import Defect, cases
from tests.fuzz.targets import TARGETS


def fuzz(
    folder: Path, count: int, seed: int = 0, first: int = 0, only: str | None = None, jobs: int = 2
) -> list[Defect]:
    """Run cases over all targets, or over one target, and print the counts. Return the defects.

    count: the number of cases. first: the number of the first case. only: the one target. jobs: the number of threads.
    """
    shares = {only: 100} if only else {name: share for name, (share, _) in TARGETS.items()}
    work = [
        (name, range(first + job, first + -(-count * share // 100), jobs))
        for name, share in shares.items()
        for job in range(jobs)
    ]
    counts: dict[str, Counter[str]] = {name: Counter() for name in shares}
    defects: list[Defect] = []

    def run_cases(name: str, numbers: range) -> None:
        for kinds, wrong in cases(name, seed, numbers, folder):
            counts[name] += kinds
            defects.extend(wrong)
        print(f"{name}: {sum(counts[name].values())} cases", file=sys.stderr, flush=True)

    start = time.monotonic()
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(lambda item: run_cases(*item), work))
    for name, kinds in counts.items():
        wrong = sum(defect.target == name for defect in defects)
        print(f"{name:18}{kinds['good']:8} good {kinds['refused']:8} refused {wrong:6} defects")
    total = sum(sum(kinds.values()) for kinds in counts.values()) + len(defects)
    seconds = time.monotonic() - start
    print(f"{total} cases, {len(defects)} defects, {total / seconds:.0f} cases/s, {seconds:.0f} s, seed {seed}")
    return defects


def main() -> int:
    """Run the fuzzer, print the defects by problem and return the exit code."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--count", type=int, default=1000)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--first", type=int, default=0, help="number of the first case")
    arguments.add_argument("--only", choices=list(TARGETS))
    arguments.add_argument("--jobs", type=int, default=2)
    arguments.add_argument("--seed-files", type=Path, help="a folder that keeps the seed files for the next call")
    options = vars(arguments.parse_args())
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.pop("seed_files") or Path(temporary)
        if not (folder / "calibration.json").exists():
            from tests.fuzz.seed_files import write_seed_files

            write_seed_files(folder)
        defects = fuzz(folder, **options)
    by_problem: dict[str, list[Defect]] = {}
    for defect in defects:
        by_problem.setdefault(f"{defect.target}: {defect.problem.split(chr(10))[0]}", []).append(defect)
    for problem, same in sorted(by_problem.items(), key=lambda item: -len(item[1])):
        print(f"{len(same)}x {problem} (case {', '.join(str(defect.case) for defect in same[:3])})")
    return 1 if defects else 0


if __name__ == "__main__":
    sys.exit(main())

"""python -m tests.fuzz --count 100000: mutated files of every kind; exit code 1 for anything but documented errors."""

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
    """Runs `count` cases over the targets, or all over one, and prints what came of them."""
    shares = {only: 100} if only else {name: share for name, (share, _) in TARGETS.items()}
    work = [
        (name, range(first + job, first + -(-count * share // 100), jobs))
        for name, share in shares.items()
        for job in range(jobs)
    ]
    counts: dict[str, Counter[str]] = {name: Counter() for name in shares}
    defects: list[Defect] = []

    def one(name: str, numbers: range) -> None:
        for found, wrong in cases(name, seed, numbers, folder):
            counts[name] += found
            defects.extend(wrong)
        print(f"{name}: {sum(counts[name].values())} cases", file=sys.stderr, flush=True)

    begun = time.monotonic()
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(lambda each: one(*each), work))
    for name, found in counts.items():
        wrong = sum(defect.target == name for defect in defects)
        print(f"{name:18}{found['good']:8} good {found['refused']:8} refused {wrong:6} defects")
    total = sum(sum(found.values()) for found in counts.values()) + len(defects)
    seconds = time.monotonic() - begun
    print(f"{total} cases, {len(defects)} defects, {total / seconds:.0f} cases/s, {seconds:.0f} s, seed {seed}")
    return defects


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--count", type=int, default=1000)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--first", type=int, default=0, help="number of the first case")
    arguments.add_argument("--only", choices=list(TARGETS))
    arguments.add_argument("--jobs", type=int, default=2)
    arguments.add_argument("--material", type=Path, help="a folder that keeps the good files for the next call")
    options = vars(arguments.parse_args())
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.pop("material") or Path(temporary)
        if not (folder / "calibration.json").exists():
            from tests.fuzz.material import make_material

            make_material(folder)
        defects = fuzz(folder, **options)
    seen: dict[str, list[Defect]] = {}
    for defect in defects:
        seen.setdefault(f"{defect.target}: {defect.problem.split(chr(10))[0]}", []).append(defect)
    for problem, found in sorted(seen.items(), key=lambda item: -len(item[1])):
        print(f"{len(found)}x {problem} (case {', '.join(str(defect.case) for defect in found[:3])})")
    return 1 if defects else 0


if __name__ == "__main__":
    sys.exit(main())

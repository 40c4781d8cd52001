#!/usr/bin/env python3
"""Runner of the GPU tests and of benchmarks/gpu.py on a machine that has a GPU but no network.

    python benchmarks/on_gpu.py prepare build/wheels        # where there is a network; Linux, x86-64
    python3 benchmarks/on_gpu.py run build/wheels figures   # on the GPU machine, in a checkout with build/wheels

gpu.py gets all further options. Three shorter commands are: --sections peaks forward grid busy, then --no-tests
--sections variants, then --no-tests --seconds 1800 --sections pipeline.

The GPU machine must have Python 3.12 with torch >= 2.11, transformers, pyarrow, pandas, fsspec, rich, msgpack, pytest
and hypothesis. `prepare` downloads the other packages, in the versions of constraints.txt. It removes the files of
Ray's wheel that Python does not run: the jars and the source maps.
"""

import argparse
import base64
import csv
import hashlib
import io
import os
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WHEELS = (
    "ray",
    "pydantic",
    "pydantic_core",
    "annotated-types",
    "typing-inspection",
    "typing_extensions",
    "jsonschema",
    "jsonschema-specifications",
    "referencing",
    "rpds-py",
)
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64", "manylinux1_x86_64")
_RECORD = re.compile(r"[^/]+\.dist-info/RECORD")  # of the wheel itself, not of packages inside it


def prepare(folder: Path) -> None:
    """Download wheels for CPython 3.12 into an empty folder."""
    folder.mkdir(parents=True, exist_ok=True)
    if entries := sorted(folder.iterdir()):
        raise SystemExit(f"{folder}: expected an empty folder, found {entries[0].name}; empty the folder")
    versions = dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    pinned = [f"{name}=={versions[name]}" for name in WHEELS]
    target = ["--only-binary=:all:", "--python-version=3.12", "--implementation=cp"]
    platforms = [f"--platform={platform}" for platform in PLATFORMS]
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        *target,
        *platforms,
        "--dest",
        str(folder),
    ]
    subprocess.run([*command, *pinned], check=True)
    (ray,) = folder.glob("ray-*.whl")
    shrink(ray)
    for wheel in sorted(folder.glob("*.whl"), key=lambda file: -file.stat().st_size):
        print(f"{wheel.stat().st_size / 1e6:8.2f} MB {wheel.name}")
    print(f"{sum(file.stat().st_size for file in folder.iterdir()) / 1e6:8.2f} MB")


def shrink(wheel: Path) -> None:
    """Remove jars and source maps from a wheel and its RECORD. Programs stay executable."""
    smaller = wheel.with_suffix(".smaller")
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(smaller, "w") as new:
        kept = [entry for entry in old.infolist() if not re.search(r"^ray/jars/|\.map$", entry.filename)]
        (record,) = (entry for entry in kept if _RECORD.fullmatch(entry.filename))
        names = {entry.filename for entry in kept}
        lines = [line for line in csv.reader(io.StringIO(old.read(record).decode())) if line[0] in names]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(lines)
        for entry in kept:
            content = text.getvalue().encode() if entry is record else old.read(entry)
            new.writestr(entry, content, zipfile.ZIP_DEFLATED, 9)  # the entry has the mode of the file
    check_record(smaller)
    smaller.replace(wheel)


def check_record(wheel: Path) -> None:
    """Check that RECORD has every file with its hash, and no other file. Raises SystemExit if not."""
    with zipfile.ZipFile(wheel) as archive:
        files = {entry.filename: archive.read(entry) for entry in archive.infolist() if not entry.is_dir()}
    (record,) = filter(_RECORD.fullmatch, files)
    hashes = {name: digest for name, digest, _ in csv.reader(io.StringIO(files[record].decode()))}
    if hashes.keys() != files.keys():
        difference = sorted(hashes.keys() ^ files.keys())[:5]
        raise SystemExit(f"{wheel}: expected the files of RECORD, found a difference: {difference}; download it again")
    for name, content in files.items():
        digest = "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
        if name != record and hashes[name] != digest:
            raise SystemExit(f"{wheel}: expected {hashes[name]} for {name}, got {digest}; download the wheel again")


def run(wheels: Path, out: Path, seconds: float, tests: bool, rest: list[str]) -> None:
    """Install the wheels beside the machine's packages, then run tests and benchmark. If one fails, the other runs."""
    start = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    target = Path(tempfile.gettempdir(), "distilray-site")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
        "--no-compile",
        "--no-cache-dir",
    ]
    subprocess.run([*pip, "--upgrade", "--target", str(target), *map(str, sorted(wheels.glob("*.whl")))], check=True)
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{target}", "PYTHONUNBUFFERED": "1"}
    gpu_tests = [file for file in sorted((ROOT / "tests").rglob("test_*.py")) if "mark.gpu" in file.read_text("utf-8")]
    test_command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", *map(str, gpu_tests)]
    benchmark_command = [sys.executable, str(ROOT / "benchmarks/gpu.py"), "--out", str(out / "figures.json"), *rest]
    for name, command in [("tests", test_command)] * tests + [("gpu", benchmark_command)]:
        left = seconds - (time.monotonic() - start)
        file = out / f"{name}.log"
        with file.open("w") as log:
            try:
                code = subprocess.run(
                    command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, timeout=left, check=False
                ).returncode
                print(f"{name}: exit status {code}")
            except subprocess.TimeoutExpired:
                print(f"{name}: stopped after {left:.0f} s")
        print(file.read_text()[-5000:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("prepare", "run"))
    parser.add_argument("wheels", type=Path)
    parser.add_argument("out", type=Path, nargs="?", help="run: folder for logs and figures.json")
    parser.add_argument("--seconds", type=float, default=570, help="run: time limit of the whole run")
    parser.add_argument("--no-tests", action="store_true", help="run: only benchmarks/gpu.py")
    args, rest = parser.parse_known_args()  # benchmarks/gpu.py gets the other options
    if args.step == "prepare":
        prepare(args.wheels)
    elif args.out is None:
        parser.error("expected a folder for the figures after the wheels; run needs one")
    else:
        run(args.wheels, args.out.resolve(), args.seconds, not args.no_tests, rest)


if __name__ == "__main__":
    main()

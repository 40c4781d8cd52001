"""What a process takes of this machine's memory, and what is left."""

import os
from pathlib import Path

_RAY_THRESHOLD = 0.95  # of all memory: what Ray allows by default before it kills workers


def resident(pid: int) -> float:
    """Bytes of memory; 0 where the system does not tell."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0.0


def free_memory() -> float:
    """Bytes, of the machine or the container, that Ray's monitor would let us have; infinite where the system does not tell."""
    kept = 1 - float(os.environ.get("RAY_memory_usage_threshold", _RAY_THRESHOLD))  # noqa: SIM112  Ray's spelling
    free = [float("inf")]
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        total, available = (int(lines[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
        free.append(available - kept * total)
        group = Path("/sys/fs/cgroup")
        most, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        said = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        cached = int(said["active_file"]) + int(said["inactive_file"])  # given back when it is wanted
        free.append((1 - kept) * most - (used - cached))
    except (OSError, ValueError, KeyError):
        pass  # "max", or no such group
    return max(min(free), 0.0)

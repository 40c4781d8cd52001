"""The memory of a process, and the free memory of the machine."""

import os
from pathlib import Path

_RAY_THRESHOLD = 0.95  # the share of all memory above which Ray by default kills workers


def resident(pid: int) -> float:
    """Return the resident bytes of a process, or 0 if the system does not report them."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0.0


def free_memory() -> float:
    """Return the bytes of the machine or container that may be used before Ray's monitor kills workers.

    Return infinity if the system does not report its memory.
    """
    reserved = 1 - float(os.environ.get("RAY_memory_usage_threshold", _RAY_THRESHOLD))  # noqa: SIM112  Ray's spelling
    free = [float("inf")]
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        total, available = (int(lines[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
        free.append(available - reserved * total)
        group = Path("/sys/fs/cgroup")
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        cached = int(stat["active_file"]) + int(stat["inactive_file"])  # the kernel frees it on demand
        free.append((1 - reserved) * limit - (used - cached))
    except (OSError, ValueError, KeyError):
        pass  # the limit is "max", or there is no such file
    return max(min(free), 0.0)

"""The versions of the packages that an output was computed with."""

import logging
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from distilray import __version__

log = logging.getLogger(__name__)

_PACKAGES = ("ray", "torch", "tokenizers", "pyarrow")


def versions() -> dict[str, str]:
    """Return the version of distilray, of Python and of each package in `_PACKAGES`, by name."""
    installed = {name: version(name) for name in _PACKAGES}
    return {"distilray": __version__, "python": platform.python_version(), **installed}


def versions_summary(other_versions: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """Return the manifest's entries about versions.

    other_versions: the versions of earlier runs, where they differ from those of this process.
    """
    return {"versions": versions(), "other_versions": list(other_versions)}


def warn_of_other_versions(other_versions: Sequence[Mapping[str, str]]) -> None:
    """Warn if earlier runs of the output computed, or may have computed, units with other versions."""
    current = versions()
    for earlier in other_versions:
        changed = [name for name in current if earlier.get(name) != current[name]]
        differences = ", ".join(f"{name} {earlier.get(name)} (now {current[name]})" for name in changed)
        log.warning("an earlier run of this output used %s: the output will mix answers of both versions", differences)

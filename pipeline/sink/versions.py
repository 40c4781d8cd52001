"""The versions of the packages that an output was made with."""

import logging
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from distilray import __version__

log = logging.getLogger(__name__)

_PACKAGES = ("ray", "torch", "tokenizers", "pyarrow")


def versions() -> dict[str, str]:
    """Return the versions that this process computes with."""
    installed = {name: version(name) for name in _PACKAGES}
    return {"distilray": __version__, "python": platform.python_version(), **installed}


def versions_summary(others: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """Return what the manifest says of versions; others: those of earlier runs that had other versions."""
    return {"versions": versions(), "other_versions": list(others)}


def warn_of_other_versions(others: Sequence[Mapping[str, str]]) -> None:
    """Warn if earlier runs of the output computed, or may have computed, units with other versions."""
    ours = versions()
    for theirs in others:
        differences = ", ".join(
            f"{name} {theirs.get(name)} (now {ours.get(name)})" for name in ours if theirs.get(name) != ours[name]
        )
        log.warning("an earlier run of this output had %s: answers of both will lie side by side", differences)

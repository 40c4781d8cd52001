"""The keys of a job that decide its answers."""

from collections.abc import Mapping
from typing import Any


def answer_keys(description: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys that a fingerprint covers, with their values, in the order in which they are hashed.

    description: a job as plain data. Raises KeyError or TypeError for data that is no job.
    """
    return {
        "source": description["source"],
        "tasks": description["tasks"],
        "compute.dtype": description["compute"]["dtype"],
    }

"""The fingerprint of a job. Jobs with equal fingerprints have equal answers.

`check_same_job` in sink/plan_file.py compares the fingerprint of a job with that of the plan in its sink.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any


def fingerprint_of(description: Mapping[str, Any], digests: Sequence[str]) -> str:
    """Return the SHA-256 of the values that decide the answers of a job, in hexadecimal digits.

    description: the job as plain data. digests: the digests of the checkpoints, one for each task.
    """
    values = [*answer_keys(description).values(), *digests]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def answer_keys(description: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys that a fingerprint covers, with their values, in the order in which they are hashed.

    description: a job as plain data. Raises KeyError or TypeError for data that is no job.
    """
    return {
        "source": description["source"],
        "tasks": description["tasks"],
        "compute.dtype": description["compute"]["dtype"],
    }

"""The soak test: `python -m tests.chaos --kills 200 --seed 0`. The last line of its output is the result as JSON."""

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path

from tests.chaos.cluster import nodes
from tests.chaos.job_on_s3 import job_on_s3
from tests.chaos.soak import Soak


def main() -> int:
    """Return 1 if a run lost or duplicated rows, or hung."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chaos") as folder:
        return soak(Path(folder), arguments.kills, arguments.seed)


def soak(folder: Path, kills: int, seed: int) -> int:
    """Run the soak test, print its result and return the exit code."""
    with job_on_s3(folder, shards=8, rows=60, seed=seed) as job, nodes(2) as cluster:
        result = Soak(job, cluster, random.Random(seed), log=lambda text: print(text, flush=True)).run(kills)
    print(json.dumps(result))
    return 1 if result["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())

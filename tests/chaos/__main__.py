"""python -m tests.chaos --kills 200 --seed 0: the soak; the last line is the verdict as JSON."""

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path

from tests.chaos.cluster import nodes
from tests.chaos.soak import Soak
from tests.chaos.stage import stage


def main() -> int:
    """1 if anything was lost, doubled, or hung."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chaos") as folder:
        return soak(Path(folder), arguments.kills, arguments.seed)


def soak(folder: Path, kills: int, seed: int) -> int:
    with stage(folder, shards=8, rows=60, seed=seed) as here, nodes(2) as cluster:
        verdict = Soak(here, cluster, random.Random(seed), say=lambda text: print(text, flush=True)).run(kills)
    print(json.dumps(verdict))
    return 1 if verdict["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())

"""Make the small classification model, which says in what century a text was spoken, and measure it.

    python examples/make_century COMMAND [--work FOLDER]

assemble  Write examples/models/century/model.safetensors: the encoder of examples/models/ner and the committed head.
          A moment; needs only numpy and safetensors.
train     Train that head on frozen features of the addresses that are not in examples/corpus, and assemble.
          Eight minutes on one CPU core; needs npm, for the addresses.
evaluate  Accuracy on the addresses of examples/corpus. Two minutes.

`train` and `evaluate` need torch, transformers and pyarrow. FOLDER keeps the addresses; it may be make_ner's.
"""

import argparse
import importlib
import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "make_ner"))  # the addresses are read there


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="make_century", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["assemble", "train", "evaluate"])
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "make_ner", metavar="FOLDER")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    assemble = importlib.import_module("assemble").assemble
    if args.command == "train":
        importlib.import_module("head").run(args.work)  # imported when its turn comes: `assemble` needs no torch
    print(assemble())
    if args.command == "evaluate":
        importlib.import_module("accuracy").run()


if __name__ == "__main__":
    main()

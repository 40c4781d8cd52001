"""Make the small classification model, which predicts the century of a speech, and measure it.

    python examples/make_century COMMAND [--work FOLDER]

assemble  Write examples/models/century/model.safetensors: the encoder of examples/models/ner and the committed head.
          Takes a moment. Needs only numpy and safetensors.
train     Train the head on frozen features of the addresses that are not in examples/corpus, then assemble.
          Takes eight minutes on one CPU core. Needs npm, for the addresses.
evaluate  Measure the accuracy on the addresses of examples/corpus. Takes two minutes.

`train` and `evaluate` need torch, transformers and pyarrow.
FOLDER stores the addresses. It can be the folder of make_ner.
"""

import argparse
import importlib
import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "make_ner"))  # the module that reads the addresses


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
        importlib.import_module("head").run(args.work)  # imported late: `assemble` needs no torch
    print(assemble())
    if args.command == "evaluate":
        importlib.import_module("accuracy").run()


if __name__ == "__main__":
    main()

"""Make a small question-answering model from packages of the registries only, and measure it.

    python examples/make_qa COMMAND [--work FOLDER] [--squad FILE ...]

data      Make questions by rule on the State of the Union addresses, with the NER model's names. Takes three minutes.
train     Train the six-layer MiniLM, as a DistilBERT, to answer them, and write examples/models/qa. Takes 12 minutes.
make      Run data and train, one after the other. Takes a quarter of an hour on one CPU core.
evaluate  Measure exact match and F1 on examples/questions.jsonl, on questions by rule about the addresses of
          examples/corpus (after `data`), and on FILEs in the format of SQuAD.
questions Write the hand-made questions of examples/questions.jsonl as Parquet.

`data` and `train` need npm, for the addresses, and the packages in requirements.txt.
`evaluate` needs only torch, transformers and pyarrow.
FOLDER stores the addresses and the questions. It can be the folder of make_ner.
"""

import argparse
import importlib
import sys
import tempfile
from pathlib import Path

# the modules for addresses, names and conversion
sys.path.append(str(Path(__file__).resolve().parent.parent / "make_ner"))


def main() -> None:
    """Run the stages that the command names."""
    parser = argparse.ArgumentParser(
        prog="make_qa", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["make", "data", "train", "evaluate", "questions"])
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "make_ner", metavar="FOLDER")
    parser.add_argument("--squad", type=Path, nargs="*", default=[], metavar="FILE")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    if args.command == "evaluate":
        importlib.import_module("answer").run(args.work, args.squad)
        return
    if args.command == "questions":
        importlib.import_module("answer").write_gold()
        return
    for stage in ["data", "train"] if args.command == "make" else [args.command]:
        module = "tune" if stage == "train" else stage  # imported late: each stage needs other packages
        importlib.import_module(module).run(args.work)


if __name__ == "__main__":
    main()

"""Make the example corpus and the small named-entity model, and measure the model.

    python examples/make_ner COMMAND [--work FOLDER]

corpus    Every fifth State of the Union address goes to examples/corpus and to nothing else. Seconds.
silver    A spaCy pipeline labels all addresses; its spans are tidied and made consistent. Six minutes.
train     A six-layer MiniLM becomes a DistilBERT of three narrow layers with a short vocabulary,
          and is trained on the silver labels and on made-up sentences. About 50 minutes on one CPU core.
make      corpus, silver and train, one after the other. About an hour.
evaluate  F1 of the model against gold.jsonl. A minute.

All but `evaluate` need npm, for the addresses, and the packages in requirements.txt.
`evaluate` needs only torch, transformers and pyarrow.
FOLDER keeps what passes from one command to the next: the addresses, the teacher's spans, the silver labels.
"""

import argparse
import importlib
import tempfile
from pathlib import Path


def main() -> None:
    """Run the stages that the command names."""
    parser = argparse.ArgumentParser(
        prog="make_ner", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["make", "corpus", "silver", "train", "evaluate"])
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "make_ner", metavar="FOLDER")
    args = parser.parse_args()
    if args.command != "evaluate":
        args.work.mkdir(parents=True, exist_ok=True)
    for stage in ["corpus", "silver", "train"] if args.command == "make" else [args.command]:
        module = "measure" if stage == "evaluate" else stage  # imported when its turn comes: each needs other packages
        importlib.import_module(module).run(args.work)


if __name__ == "__main__":
    main()

"""Make the example corpus and the small named-entity model, and measure the model.

    python examples/make_ner COMMAND [--work FOLDER]

corpus    Write every fifth State of the Union address to examples/corpus, and use it for nothing else. Takes seconds.
silver    Label all addresses with a spaCy pipeline, clean its spans and make them consistent. Takes six minutes.
train     Convert a six-layer MiniLM to a DistilBERT of three narrow layers with a short vocabulary,
          and train it on the silver labels and on made-up sentences. Takes about 50 minutes on one CPU core.
make      Run corpus, silver and train, one after the other. Takes about an hour.
evaluate  Measure F1 of the model against gold.jsonl. Takes a minute.

All commands except `evaluate` need npm, for the addresses, and the packages in requirements.txt.
`evaluate` needs only torch, transformers and pyarrow.
FOLDER stores the intermediate results: the addresses, the teacher's spans, the silver labels.
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
        module = "measure" if stage == "evaluate" else stage  # imported late: each stage needs other packages
        importlib.import_module(module).run(args.work)


if __name__ == "__main__":
    main()

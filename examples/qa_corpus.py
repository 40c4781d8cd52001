#!/usr/bin/env python3
"""Ask every speech the same questions. Make the model first: python examples/make_qa make"""

import argparse
import sys
from pathlib import Path

from distilray import Compute, Job, QuestionAnswering, Sink, Source, run

HERE = Path(__file__).resolve().parent

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--questions", nargs="+", default=["Which country was at war?", "Who is the Secretary of State?"])
parser.add_argument("--input", default=str(HERE / "corpus"), help="folder, glob or file of Parquet, on any file system")
parser.add_argument("--text", default="text", help="the column to read")
parser.add_argument("--keep", nargs="*", default=["id"], help="columns to copy into the output")
parser.add_argument("--output", default="out/qa", help="folder for the answers")
parser.add_argument("--model", default=str(HERE / "models/qa"), help="folder of a DistilBERT for question answering")
parser.add_argument("--engine", default="ray", choices=["ray", "local"])
args = parser.parse_args()
if args.model == parser.get_default("model") and not Path(args.model, "config.json").exists():
    sys.exit(
        f"expected a model in {args.model}, found no config.json there: "
        "make it with `python examples/make_qa make` (20 minutes), or name another folder with --model"
    )

run(
    Job(
        source=Source(uri=args.input, text=args.text, keep=args.keep),
        tasks=[QuestionAnswering(model=args.model, questions=args.questions, top_k=3, no_answer=True)],
        sink=Sink(uri=args.output),
        compute=Compute(engine=args.engine),
    )
)

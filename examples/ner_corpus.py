#!/usr/bin/env python3
"""Find people, places and organisations in a Parquet corpus. Without arguments: in the corpus of the examples."""

import argparse
from pathlib import Path

from distilray import Compute, Job, Sink, Source, TokenClassification, run

HERE = Path(__file__).resolve().parent

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--input", default=str(HERE / "corpus"), help="folder, glob or file of Parquet, on any file system")
parser.add_argument("--text", default="text", help="the column to read")
parser.add_argument("--keep", nargs="*", default=["id"], help="columns to copy into the output")
parser.add_argument("--output", default="out/ner", help="folder for the answers")
parser.add_argument("--model", default=str(HERE / "models/ner"), help="folder of a DistilBERT token classifier")
parser.add_argument("--engine", default="ray", choices=["ray", "local"])
args = parser.parse_args()

run(
    Job(
        source=Source(uri=args.input, text=args.text, keep=args.keep),
        tasks=[TokenClassification(model=args.model)],
        sink=Sink(uri=args.output),
        compute=Compute(engine=args.engine),
    )
)

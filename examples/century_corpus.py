#!/usr/bin/env python3
"""Find the people, places and organisations, the century, and an embedding of each speech: three tasks, one pass.

The model that predicts the century has the encoder of the NER model. The embeddings use the same encoder.
"""

import argparse
from pathlib import Path

from make_century.assemble import assemble

from distilray import Compute, Embeddings, Job, Sink, Source, TextClassification, TokenClassification, run

HERE = Path(__file__).resolve().parent

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--output", default="out/century", help="folder for the answers")
parser.add_argument("--engine", default="ray", choices=["ray", "local"])
args = parser.parse_args()

ner, century = str(HERE / "models/ner"), str(assemble())
run(
    Job(
        source=Source(uri=str(HERE / "corpus"), keep=["id", "year"]),
        tasks=[
            TextClassification(model=century, name="spoken_in", long_texts="mean"),
            TokenClassification(model=ner),
            Embeddings(model=ner, long_texts="mean", normalize=True),
        ],
        sink=Sink(uri=args.output),
        compute=Compute(engine=args.engine),
    )
)

"""The valid files that the fuzzer mutates: a checkpoint in every format, shards, a job, and the output of a run."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from distilray.model.checkpoint.checkpoint import Checkpoint
from distilray.model.tokenizer.tokenizer import Tokenizer
from distilray.pipeline import Compute, Job, Sink, Source, TokenClassification, run

JOB = """
source: {uri: s3://corpus/news/, text: body, keep: [id, url], storage_options: {endpoint_url: http://localhost}}
tasks:
  - {task: token-classification, model: s3://models/ner/, name: entities, aggregation: first}
  - {task: text-classification, model: hf://org/topics@main, name: topics, threshold: 0.5, long_texts: mean}
  - {task: zero-shot-classification, model: /models/nli, labels: [sport, politics], name: about}
  - {task: question-answering, model: /models/qa, question_column: question, name: answer}
  - {task: embeddings, model: /models/base, name: vector}
sink: {uri: s3://out/news-ner/}
compute: {engine: local, tokenize: {min: 1, max: 4}, predict: {max: 2}, price: 2.5, threads: 2, dtype: float32}
"""


def write_seed_files(folder: Path) -> Path:
    """Write the files that all targets start from."""
    from tests.model.checkpoint.broken import FORMATS, write_checkpoint  # imported late: Transformers takes seconds

    models = folder / "models"
    for kind in (*FORMATS, "flax_sharded"):
        (models / kind).mkdir(parents=True)
        write_checkpoint(kind, models / kind)
    valid = models / "safetensors"
    (folder / "tokenizer.json").write_text(Tokenizer(Checkpoint(str(valid)), "special")._tokenizer.to_str())
    (folder / "job.yaml").write_text(JOB)
    (folder / "shards").mkdir()
    for name, table, options in shards():
        pq.write_table(table, folder / "shards" / f"{name}.parquet", **options)
    (folder / "corpus").mkdir()
    pq.write_table(pa.table({"text": ["Angela Merkel met Tim Cook in Berlin.", None] * 9}), folder / "corpus/a.parquet")
    shutil.copy(folder / "shards/plain.parquet", folder / "corpus/b.parquet")
    (folder / "corpus/c.parquet").write_bytes(b"not Parquet")
    run(output_job(folder, folder / "out"), quiet=True)
    (folder / "calibration.json").write_text(json.dumps({"k": {"tokens_per_pack": 1024, "tokens_per_second": 2.5}}))
    return folder


def output_job(folder: Path, out: Path) -> Job:
    """Return the job whose output is in out/."""
    task = TokenClassification(model=str(folder / "models/safetensors"), name="entities")
    source = Source(uri=str(folder / "corpus"))
    return Job(source=source, tasks=[task], sink=Sink(uri=str(out)), compute=Compute(engine="local", unit_bytes=200))


def shards() -> list[tuple[str, pa.Table, dict]]:
    """Return the name, the table and the writer options of shards with every encoding and type of a corpus."""
    draw = np.random.default_rng(0)
    texts = [" ".join(draw.choice(["the", "war", "caf\u00e9", "Lincoln", "\U0001f600"], 6)) for _ in range(60)]
    plain = pa.table({"text": texts, "id": range(60), "tags": [["a", "b"], [], None] * 20})
    nested = plain.append_column("meta", pa.array([{"a": 1, "b": [1.5, 2.5]}, None, {"a": None, "b": []}] * 20))
    binary = plain.set_column(0, "text", pa.array([text.encode() for text in texts]))
    dictionary = plain.set_column(0, "text", pa.array(texts).dictionary_encode())
    pages = {"row_group_size": 25, "write_page_checksum": True, "write_page_index": True, "data_page_size": 100}
    return [
        ("plain", plain, {"row_group_size": 25}),
        ("pages", plain, {**pages, "use_dictionary": False, "write_batch_size": 8}),
        ("v2", nested, {"data_page_version": "2.0", "compression": "zstd", "row_group_size": 40}),
        ("delta", binary, {"column_encoding": {"text": "DELTA_BYTE_ARRAY", "id": "DELTA_BINARY_PACKED"}, "use_dictionary": False}),
        ("length", plain, {"column_encoding": {"text": "DELTA_LENGTH_BYTE_ARRAY"}, "use_dictionary": False, "compression": "none"}),
        ("dictionary", dictionary, {"compression": "gzip"}),
        ("large", plain.cast(pa.schema([("text", pa.large_string()), ("id", pa.int32()), ("tags", pa.list_(pa.large_string()))])), {"compression": "brotli"}),
    ]  # fmt: skip

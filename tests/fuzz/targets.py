"""The targets of the fuzzer: the readers of untrusted files.

For each kind of file, a target makes a function that mutates a file with a random number generator and reads it.
"""

import json
import os
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import fsspec
import msgpack
import pyarrow as pa
import torch
import yaml

from distilray.model.checkpoint.checkpoint import Checkpoint
from distilray.model.checkpoint.formats.load import load_tensors
from distilray.model.checkpoint.weights import check_weights, load_encoder, load_head, read_weights
from distilray.model.errors import CheckpointError
from distilray.model.inference import calibrate
from distilray.model.network.attention import choose_attention
from distilray.model.tokenizer.tokenizer import Tokenizer
from distilray.pipeline import IncompleteError, JobError, load_job
from distilray.pipeline.corpus import footer_pool
from distilray.pipeline.corpus import survey as shards
from distilray.pipeline.errors import STOP_ERRORS, USER_ERRORS
from distilray.pipeline.job.job import Source
from distilray.pipeline.planning.plan import cut
from distilray.pipeline.sink import output as commit
from tests.fuzz import thrift
from tests.fuzz.mutate import EXTREMES, WORDS, mutate_bytes, mutate_thrift, mutate_tree
from tests.fuzz.seed_files import output_job
from tests.fuzz.yaml_bombs import yaml_bomb

Case = Callable[[Random], None]
Target = Callable[[Path], Case]
DOCUMENTED = (*USER_ERRORS, *STOP_ERRORS, IncompleteError)
MEMORY = fsspec.filesystem("memory")
TEXTS = ["Angela Merkel met Tim Cook in Berlin.", "", "caf\u00e9 [SEP] \U0001f600 x" + "y" * 120]


class DefectError(Exception):
    """A wrong result without an error."""


def _copy_to_memory(source: Path) -> dict[str, bytes]:
    """Copy the files of a checkpoint to memory://case and return them."""
    files = {file.name: file.read_bytes() for file in source.iterdir() if file.suffix != ".npz"}
    MEMORY.rm("/case", recursive=True) if MEMORY.exists("/case") else None
    for name, data in files.items():
        MEMORY.pipe_file(f"/case/{name}", data)
    return files


def _weights(kind: str, file: str, structured: Callable[[Random, bytes], bytes] | None = None) -> Target:
    """Make a target of a file of weights. structured: a mutation that keeps the format of the file."""

    def target(folder: Path) -> Case:
        files = _copy_to_memory(folder / "models" / kind)
        others = [data for other in sorted((folder / "models").iterdir()) for data in _contents(other)]

        def case(draw: Random) -> None:
            good = files[file]
            is_structured = structured and draw.random() < 0.6
            data = structured(draw, good) if is_structured else mutate_bytes(draw, good, others)
            MEMORY.pipe_file(f"/case/{file}", data)
            checkpoint = Checkpoint("memory://case")
            use_weights(checkpoint) if draw.random() < 0.05 else load_tensors(checkpoint)

        return case

    return target


def _contents(folder: Path) -> list[bytes]:
    """Return the bytes of each file of a checkpoint."""
    return [file.read_bytes() for file in sorted(folder.iterdir()) if file.suffix != ".npz"]


def use_weights(checkpoint: Checkpoint) -> None:
    """Load a model as a run does."""
    weights = read_weights(checkpoint)
    check_weights("token-classification", weights)
    kernel = choose_attention("eager", torch.device("cpu"), torch.float32, weights.config.head_dim)
    load_encoder(weights, kernel, torch.float32)
    load_head("token-classification", weights, torch.float32)


def safetensors_header(draw: Random, data: bytes) -> bytes:
    """Mutate the JSON header of a safetensors file, and sometimes its stated length."""
    size = int.from_bytes(data[:8], "little")
    header = json.dumps(mutate_tree(draw, json.loads(data[8 : 8 + size]))).encode()
    stated = len(header) if draw.random() < 0.8 else draw.choice(EXTREMES) & (2**64 - 1)
    return struct.pack("<Q", stated) + header + data[8 + size :]


def msgpack_tree(draw: Random, data: bytes) -> bytes:
    """Return a mutated tree, or a tree with one array of a mutated shape, type or length."""
    tree = msgpack.unpackb(data)
    if draw.random() < 0.5:
        try:
            return msgpack.packb(mutate_tree(draw, tree))
        except (OverflowError, ValueError, TypeError):
            return msgpack.packb(draw.choice(WORDS))
    shape = draw.choice(([draw.choice(EXTREMES) % 2**63], [1 << 31, 1 << 31], [], [0, 10**9], [-1], None, 3))
    array = msgpack.packb((shape, draw.choice(("float32", "float16", "object", 1, "")), bytes(draw.randrange(64))))
    array = mutate_bytes(draw, array, [data]) if draw.random() < 0.3 else array
    return msgpack.packb({"distilbert": {"embeddings": {"a": msgpack.ExtType(draw.choice((1, 1, 1, 2, 3)), array)}}})


def pickle_numbers(draw: Random, data: bytes) -> bytes:
    """Change opcodes, numbers and names of the pickle in place. The length of the file stays the same."""
    out = bytearray(data)
    for _ in range(draw.choice((1, 2, 4))):
        marks = [i for i in range(min(len(out), 4000)) if out[i] in b"KMJ\x8aXcqhR(}t."]
        at = draw.choice(marks)
        match draw.randrange(3):
            case 0:
                out[at + 1 : at + 2] = bytes([draw.randrange(256)])
            case 1:
                out[at : at + 2] = b"\x8a\x08" + struct.pack("<q", draw.choice((2**31, 2**40, 2**62, -1, 0)))
            case _:
                out[at] = draw.choice(b"KMJ\x8aXcqhR(}t.0123")
    return bytes(out)


def _json_file(name: str, use: Callable[[Checkpoint], object], source: str = "safetensors") -> Target:
    """Make a target of a JSON file of a checkpoint, mutated as a tree or as bytes."""

    def target(folder: Path) -> Case:
        files = _copy_to_memory(folder / "models" / source)
        good = (folder / "tokenizer.json").read_bytes() if name == "tokenizer.json" else files[name]
        others = _contents(folder / "models" / source)

        def case(draw: Random) -> None:
            data = (
                json.dumps(mutate_tree(draw, json.loads(good))).encode()
                if draw.random() < 0.7
                else mutate_bytes(draw, good, others)
            )
            MEMORY.pipe_file(f"/case/{name}", data)
            use(Checkpoint("memory://case"))

        return case

    return target


def use_tokenizer(checkpoint: Checkpoint) -> None:
    """Tokenize texts. Raises DefectError for a wrong number of results."""
    tokens = Tokenizer(checkpoint)(TEXTS)
    if len(tokens.offsets) != len(TEXTS) + 1:
        raise DefectError(f"{len(TEXTS)} texts, offsets {tokens.offsets}")


def use_config(checkpoint: Checkpoint) -> None:
    """Read the config and, for a share of the cases, load the model.

    Loading a model with a valid config is slow, and most cases change only a name.
    """
    config = checkpoint.config
    if hash(config) % 8 == 0 or config.sinusoidal_pos_embds or max(config.n_layers, config.dim) > 100:
        use_weights(checkpoint)


def vocab_txt(folder: Path) -> Case:
    """Tokenize with a mutated vocab.txt."""
    good = _copy_to_memory(folder / "models/safetensors")["vocab.txt"]

    def case(draw: Random) -> None:
        lines = good.split(b"\n")
        if draw.random() < 0.5:
            data = mutate_bytes(draw, good, [good])
        else:
            draw.shuffle(lines) if draw.random() < 0.3 else None
            lines[draw.randrange(len(lines))] = draw.choice(WORDS).encode()
            data = b"\n".join(lines[: draw.choice((len(lines), draw.randrange(len(lines))))])
        MEMORY.pipe_file("/case/vocab.txt", data)
        use_tokenizer(Checkpoint("memory://case"))

    return case


def calibration(folder: Path) -> Case:
    """Read a mutated file of calibrations."""
    os.environ["DISTILRAY_CACHE"] = str(folder / f"cache-{os.getpid()}")
    file = calibrate.calibration_file()
    file.parent.mkdir(exist_ok=True)
    good = (folder / "calibration.json").read_bytes()

    def case(draw: Random) -> None:
        changed = json.dumps(mutate_tree(draw, json.loads(good))).encode()
        file.write_bytes(changed if draw.random() < 0.5 else mutate_bytes(draw, good, [good]))
        calibrate._read_calibrations()

    return case


def job_file(folder: Path) -> Case:
    """Read a mutated job file, and sometimes an override with an unusual path or value."""
    file = folder / f"job-{os.getpid()}.yaml"
    good = (folder / "job.yaml").read_bytes()

    def case(draw: Random) -> None:
        roll, data = draw.random(), good
        if roll < 0.4:
            with suppress(RecursionError):  # the writer's own
                data = yaml.safe_dump(mutate_tree(draw, yaml.safe_load(good)), allow_unicode=True).encode(
                    "utf-8", "replace"
                )
        elif roll < 0.6:
            data = good.replace(*yaml_bomb(draw))
        else:
            data = mutate_bytes(draw, good, [good])
        file.write_bytes(data)
        overrides = []
        if draw.random() < 0.3:
            value = draw.choice(
                ("[[[", "&a [*a]", "!!python/object:os.system x", "9" * 5000, "{", "0x" + "f" * 900, "null")
            )
            path = draw.choice(
                ("source", "tasks.0", "tasks.-1.name", "compute.predict.max", "", ".", "a.b.c.d", "tasks.99999")
            )
            overrides = [f"{path}={value}"]
        load_job(file, overrides)

    return case


def shard(folder: Path) -> Case:
    """Survey a mutated shard, plan it and read its units. Each unit must have its planned number of rows."""
    valid_shards = [file.read_bytes() for file in sorted((folder / "shards").iterdir())]
    uri = "memory://shards/case.parquet"
    parser = footer_pool._Parser(["text", "tags"])
    shards.parse_footers = lambda tails, _: iter(parser.parse(list(tails)))  # in this process
    inputs = pa.schema([("tags", pa.list_(pa.string()))])

    def case(draw: Random) -> None:
        MEMORY.pipe_file("/shards/case.parquet", _mutated_shard(draw, valid_shards))
        MEMORY.pipe_file("/shards/good.parquet", valid_shards[0])
        source = Source(uri="memory://shards/", keep=["id"])
        corpus = shards.survey(source, inputs if draw.random() < 0.5 else inputs.empty_table().schema.remove(0))
        plan = cut(corpus, 2**20)
        for unit in plan.units:
            if unit.uri != uri and draw.random() < 0.9:
                continue
            table = corpus.read(unit)
            if table.num_rows != unit.rows:
                raise DefectError(f"{unit.rows} rows planned, {table.num_rows} read")
            table.validate(full=True)

    return case


def _mutated_shard(draw: Random, valid_shards: list[bytes]) -> bytes:
    """Return a shard with a change in its footer (in most cases), in a page, or anywhere."""
    good, roll = draw.choice(valid_shards), draw.random()
    if roll < 0.45:
        metadata = thrift.footer(good)
        mutate_thrift(draw, metadata)
        return thrift.with_footer(good, metadata)
    if roll < 0.8:
        return _mutated_page(draw, good)
    return mutate_bytes(draw, good, valid_shards)


def _mutated_page(draw: Random, good: bytes) -> bytes:
    """Return a shard with a change in the header of one page, or in the bytes of the page.

    A changed header is padded or overwrites the page, so that the file keeps its length where possible.
    """
    chunks = [chunk.get(3) for group in thrift.footer(good).get(4).items for chunk in group.get(1).items]
    chunk = draw.choice(chunks)
    at = chunk.get(11) or chunk.get(9)
    reader = thrift.Reader(good)
    reader.at = at
    header = reader.struct()
    end = reader.at + header.get(3)
    if draw.random() < 0.5 and end - reader.at:
        body = bytearray(good[reader.at : end])
        for _ in range(draw.choice((1, 2, 4))):
            body[draw.randrange(len(body))] = draw.choice((0, 1, 2, 3, 0x7F, 0x80, 0xFF, draw.randrange(256)))
        return good[: reader.at] + bytes(body) + good[end:]
    mutate_thrift(draw, header)
    size = reader.at - at
    new = thrift.struct(header)
    if len(new) > size:
        new += good[reader.at : reader.at + 8]
    return good[:at] + new + good[at + max(size, len(new)) :]


def output(folder: Path) -> Case:
    """Read a mutated plan or manifest of an output, as the next run does."""
    out = folder / "out"
    files = {str(file.relative_to(out)): file.read_bytes() for file in sorted(out.rglob("*")) if file.is_file()}
    for name, data in files.items():
        MEMORY.pipe_file(f"/out/{name}", data)
    job = output_job(folder, out)
    fingerprint = json.loads(files["_manifest.json"])["fingerprint"]
    sink = commit.Output(MEMORY, "/out", "memory://out")
    names = ["_plan.parquet", "_manifest.json"]

    def case(draw: Random) -> None:
        name = draw.choice(names)
        good = files[name]
        if name.endswith(".json"):
            as_tree = draw.random() < 0.5
            data = (
                json.dumps(mutate_tree(draw, json.loads(good))).encode()
                if as_tree
                else mutate_bytes(draw, good, [good])
            )
        else:
            data = _mutated_shard(draw, [good])
        MEMORY.pipe_file(f"/out/{name}", data)
        try:
            sink.load_plan(job, fingerprint)
            sink.manifest_if_success()
        finally:
            MEMORY.pipe_file(f"/out/{name}", files[name])

    return case


def crash(_: Path) -> Case:
    """Crash the process in a share of the cases. Reads no file."""

    def case(draw: Random) -> None:
        if draw.random() < 0.3:
            os.abort()

    return case


TARGETS: dict[str, tuple[int, Target]] = {  # the share of each in 100 cases
    "safetensors": (14, _weights("safetensors", "model.safetensors", safetensors_header)),
    "torch": (4, _weights("bin", "pytorch_model.bin")),
    "torch-legacy": (8, _weights("bin_legacy", "pytorch_model.bin", pickle_numbers)),
    "h5": (5, _weights("tf_h5", "tf_model.h5")),
    "flax": (12, _weights("flax", "flax_model.msgpack", msgpack_tree)),
    "index": (4, _json_file("flax_model.msgpack.index.json", load_tensors, "flax_sharded")),
    "config": (10, _json_file("config.json", use_config)),
    "tokenizer": (8, _json_file("tokenizer.json", use_tokenizer)),
    "tokenizer-config": (5, _json_file("tokenizer_config.json", use_tokenizer)),
    "vocab": (4, vocab_txt),
    "calibration": (2, calibration),
    "job": (6, job_file),
    "shard": (14, shard),
    "output": (4, output),
    "dies": (0, crash),
}
__all__ = ["DOCUMENTED", "TARGETS", "CheckpointError", "DefectError", "JobError"]

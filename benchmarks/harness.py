"""Shared parts of the benchmarks of whole runs: a model, a corpus on disk, and monitored processes."""

import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
VOCABULARY = EXAMPLES / "models/ner/vocab.txt"
LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG", "I-ORG")
SIZES = {"full": (768, 6), "small": (128, 2), "tiny": (32, 1)}  # dim and layers
_EVERY = 0.2  # seconds
_KIB = 1024


def make_config(dim: int, layers: int, **more: Any) -> Any:
    """Make the config of a DistilBERT with the example's vocabulary and attention heads of 64."""
    import transformers  # noqa: PLC0415  the process that only monitors others does not need it

    words = len(VOCABULARY.read_text(encoding="utf-8").splitlines())
    shape = {"dim": dim, "n_layers": layers, "hidden_dim": 4 * dim, "n_heads": max(dim // 64, 1)}
    return transformers.DistilBertConfig(vocab_size=words, **shape, **more)


def make_model(folder: Path, size: str) -> str:
    """Make a random token classifier with the example's vocabulary. Most tokens are O, as in real text."""
    import torch  # noqa: PLC0415
    import transformers  # noqa: PLC0415

    torch.manual_seed(0)
    dim, layers = SIZES[size]
    labels = {"id2label": dict(enumerate(LABELS)), "label2id": {label: i for i, label in enumerate(LABELS)}}
    model = transformers.DistilBertForTokenClassification(make_config(dim, layers, **labels))
    with torch.no_grad():
        model.classifier.bias[0] = 2.5 * 0.02 * dim**0.5
    model.save_pretrained(folder)
    shutil.copy(VOCABULARY, folder)
    settings = {"tokenizer_class": "DistilBertTokenizer", "do_lower_case": True, "model_max_length": 512}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return str(folder)


def write_corpus(folder: Path, texts: pa.StringArray, shards: int) -> str:
    """Write texts with their numbers as `id` to Parquet files of about equal numbers of rows."""
    folder.mkdir(parents=True)
    for i in range(shards):
        first, last = len(texts) * i // shards, len(texts) * (i + 1) // shards
        table = pa.table({"id": pa.array(range(first, last)), "text": texts.slice(first, last - first)})
        pq.write_table(table, folder / f"part-{i:05d}.parquet", row_group_size=4096, use_dictionary=False)
    return str(folder)


@dataclass
class Measured:
    """The measurements of a process and its descendants, in seconds and bytes.

    seconds: from its start to its end.
    result: its last line, JSON.
    tree: the peak memory of all processes together.
    kinds: the peak memory of the largest process of each kind.
    object_store: the peak use of Ray's object store. Memory shared through the store is in this figure only.
    """

    seconds: float = 0.0
    result: dict[str, Any] = field(default_factory=dict)
    tree: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    object_store: int = 0


def run_measured(script: str, arguments: dict[str, Any], env: dict[str, str] | None = None) -> Measured:
    """Run `python script --child arguments` and measure it. Raises RuntimeError with its output if it fails."""
    command = [sys.executable, script, "--child", json.dumps(arguments)]
    quiet = {"RAY_DATA_DISABLE_PROGRESS_BARS": "1", "RAY_DATA_LOG_LEVEL": "ERROR", "RAY_BACKEND_LOG_LEVEL": "fatal"}
    measured, start = Measured(), time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **quiet, **(env or {})}
    )
    done = threading.Event()
    sampler = threading.Thread(target=_sample, args=(process.pid, measured, done))
    sampler.start()
    try:
        out, errors = process.communicate()
    finally:
        done.set()
        sampler.join()
    measured.seconds = time.perf_counter() - start
    if process.returncode:
        raise RuntimeError(
            f"expected exit status 0, got {process.returncode} from {' '.join(command)}:\n"
            f"{out[-2000:]}\n{errors[-4000:]}"
        )
    measured.result = json.loads(out.strip().splitlines()[-1])
    return measured


def _sample(root: int, measured: Measured, done: threading.Event) -> None:
    while not done.wait(_EVERY):
        total = store = 0
        for pid in _tree(root):
            try:
                memory, kind = _memory(pid), "driver" if pid == root else _kind(pid)
                store += _plasma(pid) if kind == "raylet" else 0
            except OSError:  # the process has ended
                continue
            total += memory
            measured.kinds[kind] = max(measured.kinds.get(kind, 0), memory)
        measured.tree = max(measured.tree, total)
        measured.object_store = max(measured.object_store, store)


def _tree(root: int) -> list[int]:
    """Return the ids of a process and its descendants."""
    children = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                children[int((entry / "stat").read_text().rpartition(")")[2].split()[1])].append(int(entry.name))
            except OSError:
                continue
    pids = [root]
    for pid in pids:
        pids += children[pid]
    return pids


def _memory(pid: int) -> int:
    """Return the bytes in memory, without those shared through the object store."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    sizes = {name: value for name, _, value in (line.partition(":") for line in lines)}
    return sum(int(sizes.get(name, "0 kB").split()[0]) for name in ("RssAnon", "RssFile")) * _KIB


def _kind(pid: int) -> str:
    """Return the kind of a process of Ray."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    if words[0].startswith("ray::"):
        return words[0].removeprefix("ray::").split(".")[0]
    name = Path(words[0]).name
    return name if name in ("raylet", "gcs_server") else "other"


def _plasma(pid: int) -> int:
    """Return the peak bytes of the object store: it keeps the memory that it allocated."""
    files = [fd.stat() for fd in Path(f"/proc/{pid}/fd").iterdir() if _is_plasma(fd)]
    return sum({file.st_ino: file.st_blocks * 512 for file in files}.values())


def _is_plasma(fd: Path) -> bool:
    try:
        target = str(fd.readlink())
    except OSError:
        return False
    return "plasma" in target and target.startswith("/")


def start_ray(cpus: int) -> None:
    """Start a cluster on this machine, the same for all rivals."""
    import ray  # noqa: PLC0415  the import takes seconds

    ray.init(address="local", num_cpus=cpus, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)


def megabytes(size: int) -> str:
    return f"{size / 2**20:,.0f} MB"

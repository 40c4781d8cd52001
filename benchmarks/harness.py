"""What the benchmarks of whole runs share: a model, a corpus on disk, and runs in processes of their own that are watched."""

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
    """Of a DistilBERT with the example's vocabulary and heads of 64."""
    import transformers  # noqa: PLC0415  not where processes are only watched

    words = len(VOCABULARY.read_text(encoding="utf-8").splitlines())
    shape = {"dim": dim, "n_layers": layers, "hidden_dim": 4 * dim, "n_heads": max(dim // 64, 1)}
    return transformers.DistilBertConfig(vocab_size=words, **shape, **more)


def make_model(folder: Path, size: str) -> str:
    """A random token classifier with the example's vocabulary; most tokens are O, as in real text."""
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
    """Texts with their numbers as `id`, in Parquet files of about equal numbers of rows."""
    folder.mkdir(parents=True)
    for i in range(shards):
        first, last = len(texts) * i // shards, len(texts) * (i + 1) // shards
        table = pa.table({"id": pa.array(range(first, last)), "text": texts.slice(first, last - first)})
        pq.write_table(table, folder / f"part-{i:05d}.parquet", row_group_size=4096, use_dictionary=False)
    return str(folder)


@dataclass
class Watched:
    """A process and all it started. seconds: from its start to its end; said: its last line, JSON; tree: peak of the
    memory of all processes together; kinds: of the largest process of each kind; object_store: of what Ray's store has in
    use. Bytes; memory that is shared through the store is in object_store only."""

    seconds: float = 0.0
    said: dict[str, Any] = field(default_factory=dict)
    tree: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    object_store: int = 0


def watch(script: str, arguments: dict[str, Any], env: dict[str, str] | None = None) -> Watched:
    """Runs `python script --child arguments`. Raises RuntimeError with what it printed if it fails."""
    command = [sys.executable, script, "--child", json.dumps(arguments)]
    quiet = {"RAY_DATA_DISABLE_PROGRESS_BARS": "1", "RAY_DATA_LOG_LEVEL": "ERROR", "RAY_BACKEND_LOG_LEVEL": "fatal"}
    watched, start = Watched(), time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **quiet, **(env or {})}
    )
    done = threading.Event()
    watcher = threading.Thread(target=_sample, args=(process.pid, watched, done))
    watcher.start()
    try:
        out, errors = process.communicate()
    finally:
        done.set()
        watcher.join()
    watched.seconds = time.perf_counter() - start
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{out[-2000:]}\n{errors[-4000:]}")
    watched.said = json.loads(out.strip().splitlines()[-1])
    return watched


def _sample(root: int, watched: Watched, done: threading.Event) -> None:
    while not done.wait(_EVERY):
        total = store = 0
        for pid in _tree(root):
            try:
                memory, kind = _memory(pid), "driver" if pid == root else _kind(pid)
                store += _plasma(pid) if kind == "raylet" else 0
            except OSError:  # it has just ended
                continue
            total += memory
            watched.kinds[kind] = max(watched.kinds.get(kind, 0), memory)
        watched.tree = max(watched.tree, total)
        watched.object_store = max(watched.object_store, store)


def _tree(root: int) -> list[int]:
    """A process and its descendants."""
    children = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                children[int((entry / "stat").read_text().rpartition(")")[2].split()[1])].append(int(entry.name))
            except OSError:
                continue
    found = [root]
    for pid in found:
        found += children[pid]
    return found


def _memory(pid: int) -> int:
    """Bytes in memory but for those shared through the object store."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    sizes = {name: value for name, _, value in (line.partition(":") for line in lines)}
    return sum(int(sizes.get(name, "0 kB").split()[0]) for name in ("RssAnon", "RssFile")) * _KIB


def _kind(pid: int) -> str:
    """What a process of Ray is for."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    if words[0].startswith("ray::"):
        return words[0].removeprefix("ray::").split(".")[0]
    name = Path(words[0]).name
    return name if name in ("raylet", "gcs_server") else "other"


def _plasma(pid: int) -> int:
    """Bytes of the object store in use, at most so far: it keeps what it once took."""
    held = [fd.stat() for fd in Path(f"/proc/{pid}/fd").iterdir() if _is_plasma(fd)]
    return sum({each.st_ino: each.st_blocks * 512 for each in held}.values())


def _is_plasma(fd: Path) -> bool:
    try:
        target = str(fd.readlink())
    except OSError:
        return False
    return "plasma" in target and target.startswith("/")


def start_ray(cpus: int) -> None:
    """A cluster of this machine, the same for all rivals."""
    import ray  # noqa: PLC0415  seconds

    ray.init(address="local", num_cpus=cpus, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)


def megabytes(size: int) -> str:
    return f"{size / 2**20:,.0f} MB"

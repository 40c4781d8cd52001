"""Golden answers of the question answering pipeline of Transformers 4.57: their file, and the model that gave them.

`make_question_answering.py` writes the file that this module reads. A row has a question, a context, the number of
tokens of each window of the context, and the answers of the pipeline as [score, start, end]. Rows with the same options
form a group.
"""

import base64
import gzip
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from transformers import DistilBertConfig, DistilBertForQuestionAnswering

from tests.support import randomise

FILE = Path(__file__).with_name("question_answering.json.gz")
EXAMPLES = Path(__file__).parents[2] / "examples"
TOKENIZER = EXAMPLES / "models/ner"  # its vocabulary has the words of the corpus
RECIPE = {"seed": 457, "std": 0.5, "config": {"n_layers": 2, "dim": 48, "n_heads": 4, "hidden_dim": 80}}
STEP = 2.0**-16  # the logits are rounded to multiples of this, so that the file holds the exact input of the pipeline
_PLANES = 3  # bytes per logit


@dataclass(frozen=True)
class Row:
    """A question about a context, with the answers of the pipeline.

    context: a text, or {"shard", "row", "start", "end"} with a range of characters in the corpus of the examples.
    logits: float32 [2, T], the start and end logits of all windows; the last columns are those at [CLS], one per window.
    """

    question: str
    context: str | dict[str, Any]
    windows: list[int]
    answers: list[list[float]]
    logits: np.ndarray

    @property
    def text(self) -> str:
        """The text of the context."""
        if isinstance(self.context, str):
            return self.context
        texts = corpus(self.context["shard"])
        return texts[self.context["row"]][self.context["start"] : self.context["end"]]


@dataclass(frozen=True)
class Group:
    """Rows with the same options of the pipeline. All other options have their defaults."""

    options: dict[str, Any]
    rows: list[Row]


@cache
def corpus(shard: str) -> list[str]:
    """Read the texts of a shard of the corpus of the examples."""
    return pq.read_table(EXAMPLES / "corpus" / shard, columns=["text"], partitioning=None)["text"].to_pylist()


def build_model() -> DistilBertForQuestionAnswering:
    """Build the model that answered. Its weights are the same with every version of Transformers."""
    size = len((TOKENIZER / "vocab.txt").read_text(encoding="utf-8").splitlines())
    model = DistilBertForQuestionAnswering(DistilBertConfig(vocab_size=size, **RECIPE["config"]))
    randomise(model, RECIPE["seed"], RECIPE["std"])
    return model.eval()


def write_checkpoint(folder: Path) -> Path:
    """Write the model and its tokenizer as a checkpoint."""
    build_model().save_pretrained(folder)
    (folder / "vocab.txt").write_bytes((TOKENIZER / "vocab.txt").read_bytes())
    settings = {"tokenizer_class": "DistilBertTokenizer", "do_lower_case": True, "model_max_length": 512}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def fingerprint(model: torch.nn.Module) -> float:
    """Return a number that differs for other weights."""
    return sum(float(p.detach().double().abs().sum()) * (i + 1) for i, p in enumerate(model.parameters()))


def save(groups: list[Group]) -> None:
    """Write the golden file."""
    answers = [{"options": group.options, "rows": [_row_json(row) for row in group.rows]} for group in groups]
    logits = np.concatenate([row.logits.ravel() for group in groups for row in group.rows])
    steps = np.round(logits / STEP).astype("<i4")
    # planes of bytes of the same significance compress better
    planes = (steps + (1 << 8 * _PLANES - 1)).view(np.uint8).reshape(-1, 4)[:, :_PLANES].T.tobytes()
    content = {
        "fingerprint": fingerprint(build_model()),
        "groups": answers,
        "logits": base64.b64encode(planes).decode(),
    }
    data = json.dumps(content, ensure_ascii=True, separators=(",", ":")).encode()
    FILE.write_bytes(gzip.compress(data, 9, mtime=0))


@cache
def load() -> tuple[list[Group], float]:
    """Read the groups, and the fingerprint of the weights."""
    content = json.loads(gzip.decompress(FILE.read_bytes()))
    planes = np.frombuffer(base64.b64decode(content["logits"]), dtype=np.uint8).reshape(_PLANES, -1).astype(np.int64)
    steps = (planes << np.arange(0, 8 * _PLANES, 8)[:, None]).sum(axis=0) - (1 << 8 * _PLANES - 1)
    logits = (steps * STEP).astype(np.float32)
    groups = []
    for group in content["groups"]:
        rows = []
        for question, context, windows, answers in group["rows"]:
            size = sum(windows) + len(windows)
            row_logits, logits = logits[: 2 * size].reshape(2, size), logits[2 * size :]
            rows.append(Row(question, context, windows, answers, row_logits))
        groups.append(Group(group["options"], rows))
    return groups, content["fingerprint"]


def _row_json(row: Row) -> list[Any]:
    return [row.question, row.context, row.windows, [[float(f"{s:.8g}"), a, b] for s, a, b in row.answers]]

"""Answers of Transformers 4.57's question answering pipeline: how they are kept, and the checkpoint that gave them.

`make_question_answering.py` writes what this module reads. A row is a question, a context, the length in tokens of each
of the context's windows, and the pipeline's answers as [score, start, end]; rows stand in groups of the same options.
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
TOKENIZER = EXAMPLES / "models/ner"  # its vocabulary has the corpus's words
RECIPE = {"seed": 457, "std": 0.5, "config": {"n_layers": 2, "dim": 48, "n_heads": 4, "hidden_dim": 80}}
STEP = 2.0**-16  # the model's logits were rounded to this, so that what is kept is what the pipeline saw
_PLANES = 3  # bytes a logit


@dataclass(frozen=True)
class Row:
    """context: text, or {"shard", "row", "start", "end"} of characters in the examples' corpus; logits: float32 [2, T],
    start and end, of all windows, those at [CLS] in the last columns, one a window."""

    question: str
    context: str | dict[str, Any]
    windows: list[int]
    answers: list[list[float]]
    logits: np.ndarray

    @property
    def text(self) -> str:
        """The context itself."""
        if isinstance(self.context, str):
            return self.context
        texts = corpus(self.context["shard"])
        return texts[self.context["row"]][self.context["start"] : self.context["end"]]


@dataclass(frozen=True)
class Group:
    """Rows asked with the same options of the pipeline; those not named have its defaults."""

    options: dict[str, Any]
    rows: list[Row]


@cache
def corpus(shard: str) -> list[str]:
    """The texts of a shard of the examples' corpus."""
    return pq.read_table(EXAMPLES / "corpus" / shard, columns=["text"], partitioning=None)["text"].to_pylist()


def build_model() -> DistilBertForQuestionAnswering:
    """The model that answered: the same weights under every version of Transformers."""
    size = len((TOKENIZER / "vocab.txt").read_text(encoding="utf-8").splitlines())
    model = DistilBertForQuestionAnswering(DistilBertConfig(vocab_size=size, **RECIPE["config"]))
    randomise(model, RECIPE["seed"], RECIPE["std"])
    return model.eval()


def write_checkpoint(folder: Path) -> Path:
    """The model and its tokenizer, as a user holds them."""
    build_model().save_pretrained(folder)
    (folder / "vocab.txt").write_bytes((TOKENIZER / "vocab.txt").read_bytes())
    settings = {"tokenizer_class": "DistilBertTokenizer", "do_lower_case": True, "model_max_length": 512}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def fingerprint(model: torch.nn.Module) -> float:
    """Differs for other weights."""
    return sum(float(p.detach().double().abs().sum()) * (i + 1) for i, p in enumerate(model.parameters()))


def save(groups: list[Group]) -> None:
    """Rewrites the golden file."""
    whole = [{"options": group.options, "rows": [_row_json(row) for row in group.rows]} for group in groups]
    logits = np.concatenate([row.logits.ravel() for group in groups for row in group.rows])
    steps = np.round(logits / STEP).astype("<i4")
    # a byte of all logits after the other packs better
    planes = (steps + (1 << 8 * _PLANES - 1)).view(np.uint8).reshape(-1, 4)[:, :_PLANES].T.tobytes()
    content = {
        "fingerprint": fingerprint(build_model()),
        "groups": whole,
        "logits": base64.b64encode(planes).decode(),
    }
    data = json.dumps(content, ensure_ascii=True, separators=(",", ":")).encode()
    FILE.write_bytes(gzip.compress(data, 9, mtime=0))


@cache
def load() -> tuple[list[Group], float]:
    """What was written, and the fingerprint of the weights."""
    content = json.loads(gzip.decompress(FILE.read_bytes()))
    planes = np.frombuffer(base64.b64decode(content["logits"]), dtype=np.uint8).reshape(_PLANES, -1).astype(np.int64)
    steps = (planes << np.arange(0, 8 * _PLANES, 8)[:, None]).sum(axis=0) - (1 << 8 * _PLANES - 1)
    logits = (steps * STEP).astype(np.float32)
    groups = []
    for group in content["groups"]:
        rows = []
        for question, context, windows, answers in group["rows"]:
            size = sum(windows) + len(windows)
            own, logits = logits[: 2 * size].reshape(2, size), logits[2 * size :]
            rows.append(Row(question, context, windows, answers, own))
        groups.append(Group(group["options"], rows))
    return groups, content["fingerprint"]


def _row_json(row: Row) -> list[Any]:
    return [row.question, row.context, row.windows, [[float(f"{s:.8g}"), a, b] for s, a, b in row.answers]]

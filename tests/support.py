"""Checkpoints with random weights, small corpora, texts that reveal errors of tokenizers, and readers of outputs."""

import json
import random
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import transformers
import yaml
from safetensors.torch import load_file, save_file

from distilray.pipeline import Compute, Job, Sink, Source, TokenClassification

IOB2 = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG", "I-ORG")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_WORDS = (
    "the of and to in that is was for on with as his her at by from president congress united states america new york war "
    "peace lincoln washington senate john mary paris london said new government people country year bank treasury"
)
WORDS = _WORDS.split()
PIECES = ("##s", "##ing", "##ed", "##er", "##ton", "##land", "##ia", "##an", "##al", "##ly")

HARD_TEXTS = (
    "Angela Merkel met Tim Cook in Berlin.",
    "caf\u00e9 na\u00efve \u00dcberlingen \u00c5ngstr\u00f6m",  # NFC
    "cafe\u0301 nai\u0308ve U\u0308berlingen",  # NFD
    "\u5317\u4eac is \u4e2d\u56fd's capital \u6771\u4eac",
    "smile \U0001f600 family \U0001f468\u200d\U0001f469\u200d\U0001f467 flag \U0001f1e9\U0001f1ea end",
    "con\x00trol\x07 char\x1bac\u200bters\ufeff here\x7f",
    "x" * 101 + " " + "lincoln" * 30 + " washington",
    "a" * 100 + " ok",
    "[SEP] literal [CLS] special [MASK] tokens [UNK] [PAD]",
    "tabs\tand\nnew\r\nlines\u00a0nbsp\u3000ideographic\u2028separator",
    "U.S. state-of-the-art O'Brien (1862) $1,000.50 50% e-mail@x.org",
    "\u0130stanbul \u1e9e \ufb01 \u01c5 \u212b \u2460",
    "\u202eright to left\u202c \u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u05e2\u05d1\u05e8\u05d9\u05ea",
    "\uac00\ub098\ub2e4 \u0939\u093f\u0928\u094d\u0926\u0940 \u0e44\u0e17\u0e22",
    "!!!???...,,,;;;",
    "a",
    ".",
)


def vocabulary() -> list[str]:
    """Return special tokens, words, pieces, and every character of the hard texts, alone and as a continuation."""
    characters = sorted({c for text in HARD_TEXTS for c in text if not c.isspace()} | set(string.printable.strip()))
    lower = sorted({c for character in characters for c in character.lower()} | set(characters))
    return list(dict.fromkeys([*SPECIAL, *lower, *(f"##{c}" for c in lower), *WORDS, *PIECES]))


HeadKind = Literal[
    "token-classification", "sequence-classification", "multiple-choice", "question-answering", "masked-lm", "base"
]
ARCHITECTURES: dict[HeadKind, str] = {
    "token-classification": "DistilBertForTokenClassification",
    "sequence-classification": "DistilBertForSequenceClassification",
    "multiple-choice": "DistilBertForMultipleChoice",
    "question-answering": "DistilBertForQuestionAnswering",
    "masked-lm": "DistilBertForMaskedLM",
    "base": "DistilBertModel",
}
WITHOUT_LABELS = ("multiple-choice", "question-answering", "masked-lm", "base")


def make_checkpoint(
    folder: Path,
    labels: tuple[str, ...] = IOB2,
    *,
    head: HeadKind = "token-classification",
    problem_type: str | None = None,
    tie_word_embeddings: bool = True,
    seed: int = 0,
    std: float = 0.3,
    layers: int = 2,
    dim: int = 48,
    heads: int = 4,
    hidden_dim: int = 80,
    positions: int = 512,
    activation: str = "gelu",
    lower: bool = True,
    vocab: list[str] | None = None,
) -> Path:
    """Write a DistilBERT with large random weights, biases and LayerNorms, to reveal errors.

    Checkpoints with one seed and one size have equal encoders, even if their heads differ. labels: the labels of the
    two classification heads. problem_type: for sequence-classification. tie_word_embeddings: for masked-lm.
    """
    folder.mkdir(parents=True, exist_ok=True)
    vocab = vocab or vocabulary()
    label_maps = {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}
    config = transformers.DistilBertConfig(
        vocab_size=len(vocab),
        max_position_embeddings=positions,
        n_layers=layers,
        n_heads=heads,
        dim=dim,
        hidden_dim=hidden_dim,
        activation=activation,
        problem_type=problem_type,
        tie_word_embeddings=tie_word_embeddings,
        **({} if head in WITHOUT_LABELS else label_maps),
    )
    model = getattr(transformers, ARCHITECTURES[head])(config)
    randomise(model, seed, std)
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(vocab) + "\n", encoding="utf-8")
    settings = {"tokenizer_class": "DistilBertTokenizer", "do_lower_case": lower, "model_max_length": positions}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def edit_config(folder: Path, **changes: Any) -> None:
    """Change values of config.json. None removes a key."""
    file = folder / "config.json"
    config = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def edit_tensors(folder: Path, edit: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    """Change the tensors of model.safetensors. edit: a function that changes the dict of tensors in place."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    edit(tensors)
    save_file(tensors, file)


def randomise(model: torch.nn.Module, seed: int, std: float) -> None:
    """Set weights to N(0, std), biases to 0.2 N(0, 1), LayerNorm weights to 1 + 0.2 N(0, 1).

    The PAD row is not zero.
    """
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn_like(parameter)
            is_norm = "LayerNorm" in name or "layer_norm" in name
            if name.endswith("bias"):
                parameter.copy_(0.2 * noise)
            else:
                parameter.copy_(1 + 0.2 * noise if is_norm else std * noise)


def random_texts(count: int, seed: int, words: tuple[int, int] = (1, 60)) -> list[str]:
    """Return sentences of words of the vocabulary, random words, parts of the hard texts, and punctuation."""
    draw = random.Random(seed)
    snippets = [piece for text in HARD_TEXTS for piece in text.split(" ")[:6]]

    def word() -> str:
        kind = draw.random()
        if kind < 0.6:
            return draw.choice(WORDS).capitalize() if draw.random() < 0.3 else draw.choice(WORDS)
        if kind < 0.8:
            return "".join(draw.choice(string.ascii_lowercase) for _ in range(draw.randint(1, 12)))
        return draw.choice(snippets) if kind < 0.93 else draw.choice(".,;:!?'\"()-")

    return [" ".join(word() for _ in range(draw.randint(*words))) for _ in range(count)]


def write_shard(path: Path, texts: list[str | None] | pa.Array, row_group_size: int = 100, **columns: list) -> Path:
    """Write a Parquet file with a text column and other columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"text": texts, **columns}), path, row_group_size=row_group_size)
    return path


def slow_job(folder: Path, rows: int) -> Path:
    """Write a job file that runs for seconds. Its sink is the folder `alone`.

    It has four shards of so many rows in units of 20 rows. The last text of each shard is null.
    """
    make_checkpoint(folder / "model", layers=4, dim=192, hidden_dim=512)
    for shard in range(4):
        texts = [*random_texts(rows - 1, shard, words=(40, 60)), None]
        write_shard(folder / f"corpus/{shard}.parquet", texts, row_group_size=20, id=list(range(rows)))
    job = {
        "source": {"uri": str(folder / "corpus"), "keep": ["id"]},
        "tasks": [{"task": "token-classification", "model": str(folder / "model")}],
        "sink": {"uri": str(folder / "alone")},
        "compute": {"engine": "local", "unit_bytes": 8000, "dtype": "float32"},
    }
    (folder / "job.yaml").write_text(yaml.safe_dump(job))
    return folder / "job.yaml"


def metadata_of(file: Path | str) -> dict[bytes, bytes]:
    """Return the metadata of the footer of a file, without the schema."""
    return {name: value for name, value in pq.read_metadata(file).metadata.items() if name != b"ARROW:schema"}


def read_output(folder: Path | str, part: str = "data") -> pa.Table:
    """Read all rows of an output folder, in order of shard and row."""
    files = sorted(Path(folder, part).glob("*.parquet"))
    tables = [pq.read_table(file).replace_schema_metadata(None) for file in files]
    return pa.concat_tables(tables).sort_by([("shard", "ascending"), ("row", "ascending")])


def output_bytes(folder: Path | str) -> dict[str, bytes]:
    """Read the bytes of every object in data/ and dead/, by name."""
    files = [*Path(folder, "data").glob("*.parquet"), *Path(folder, "dead").glob("*.parquet")]
    return {f"{file.parent.name}/{file.name}": file.read_bytes() for file in files}


def local_job(corpus: object, model: Path, out: Path, **source: object) -> Job:
    """Make a job on the local engine with units of a few rows."""
    return Job(
        source=Source(uri=str(corpus), **source),
        tasks=[TokenClassification(model=str(model))],
        sink=Sink(uri=str(out)),
        compute=Compute(engine="local", unit_bytes=4000, dtype="float32"),
    )

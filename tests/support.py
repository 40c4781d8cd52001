"""Checkpoints with adversarial random weights, small corpora, and texts that break tokenizers."""

import json
import random
import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import DistilBertConfig, DistilBertForTokenClassification

from distilray.model.packed import make_pack

IOB2 = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG", "I-ORG")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "that",
    "is",
    "was",
    "for",
    "on",
    "with",
    "as",
    "his",
    "her",
    "at",
    "by",
    "from",
    "president",
    "congress",
    "united",
    "states",
    "america",
    "new",
    "york",
    "war",
    "peace",
    "lincoln",
    "washington",
    "senate",
    "john",
    "mary",
    "paris",
    "london",
    "said",
    "new",
    "government",
    "people",
    "country",
    "year",
    "bank",
    "treasury",
]
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
    """Specials, words, pieces, and every character of the hard texts, whole and as a continuation."""
    characters = sorted({c for text in HARD_TEXTS for c in text if not c.isspace()} | set(string.printable.strip()))
    lower = sorted({c for character in characters for c in character.lower()} | set(characters))
    return list(dict.fromkeys([*SPECIAL, *lower, *(f"##{c}" for c in lower), *WORDS, *PIECES]))


def make_checkpoint(
    folder: Path,
    labels: tuple[str, ...] = IOB2,
    *,
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
    """A token classifier with weights that show every bug: wide, with random biases and LayerNorms (distilbert.md 4)."""
    folder.mkdir(parents=True, exist_ok=True)
    vocab = vocab or vocabulary()
    config = DistilBertConfig(
        vocab_size=len(vocab),
        max_position_embeddings=positions,
        n_layers=layers,
        n_heads=heads,
        dim=dim,
        hidden_dim=hidden_dim,
        activation=activation,
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
    )
    model = DistilBertForTokenClassification(config)
    randomise(model, seed, std)
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(vocab) + "\n", encoding="utf-8")
    settings = {"tokenizer_class": "DistilBertTokenizer", "do_lower_case": lower, "model_max_length": positions}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def randomise(model: torch.nn.Module, seed: int, std: float) -> None:
    """Weights N(0, std), biases 0.2 N(0, 1), LayerNorm weights 1 + 0.2 N(0, 1); the PAD row is not zero."""
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
    """Sentences of vocabulary words, odd words, hard snippets and punctuation."""
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
    """A Parquet file with a text column and others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"text": texts, **columns}), path, row_group_size=row_group_size)
    return path


def read_output(folder: Path | str, part: str = "data") -> pa.Table:
    """All rows of an output folder, in order of shard and row."""
    files = sorted(Path(folder, part).glob("*.parquet"))
    tables = [pq.read_table(file).replace_schema_metadata(None) for file in files]
    return pa.concat_tables(tables).sort_by([("shard", "ascending"), ("row", "ascending")])


def output_bytes(folder: Path | str) -> dict[str, bytes]:
    """Every object under data/ and dead/, by name."""
    files = [*Path(folder, "data").glob("*.parquet"), *Path(folder, "dead").glob("*.parquet")]
    return {f"{file.parent.name}/{file.name}": file.read_bytes() for file in files}


def ragged_lengths(seed: int, count: int, longest: int) -> np.ndarray:
    """Lengths from 1 to `longest`, both ends included."""
    return np.append(np.random.default_rng(seed).integers(1, longest + 1, count), [1, longest])


@dataclass(frozen=True)
class Sequences:
    """B sequences of token ids laid end to end; a pack wants them in order of length. ids: [sum(lengths)]; lengths: [B]."""

    ids: np.ndarray
    lengths: np.ndarray


def random_sequences(lengths: Sequence[int] | np.ndarray, vocabulary_size: int, seed: int = 0) -> Sequences:
    """Any ids of the vocabulary, [PAD] and the other specials among them."""
    ids = np.random.default_rng(seed).integers(0, vocabulary_size, int(np.sum(lengths)))
    return Sequences(ids, np.sort(lengths))


@torch.inference_mode()
def hf_logits(folder: Path | str, batch: Sequences) -> torch.Tensor:
    """Transformers' fp32 logits [T, labels], one call for each sequence, so that no padding plays a part."""
    model = DistilBertForTokenClassification.from_pretrained(folder, dtype=torch.float32).eval()
    sequences = torch.from_numpy(batch.ids).split(batch.lengths.tolist())
    return torch.cat([model(ids[None]).logits[0] for ids in sequences])


@torch.inference_mode()
def packed_logits(model: torch.nn.Module, batch: Sequences, device: str = "cpu") -> torch.Tensor:
    """Our logits [T, labels] in fp32, all sequences in one pack."""
    pack = make_pack(batch.ids, batch.lengths).to(torch.device(device))
    return model.to(device)(pack).float().cpu()

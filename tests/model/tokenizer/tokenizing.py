"""Helpers that compare the tokenizer of a checkpoint with Transformers', and the texts for it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from distilray.model.checkpoint.checkpoint import Checkpoint
from distilray.model.tokenizer.spec import SpecialTokens
from distilray.model.tokenizer.tokenizer import Tokenizer, Tokens
from tests.support import HARD_TEXTS, random_texts, vocabulary

TEXTS = [
    *HARD_TEXTS,
    *random_texts(30, seed=9),
    "",
    " ",
    "\u0301",
    "[SEP][sep][ MASK ]",
    "Caf\u00c9 \u00c9COLE E\u0301",
]
VOCABULARY_TXT = "\n".join(vocabulary()) + "\n"

Row = tuple[list[int], list[tuple[int, int]], list[int]]


def write(folder: Path, settings: dict[str, Any] | None = None, **files: str | bytes) -> Path:
    """Write config.json, tokenizer_config.json with `settings`, and vocab_txt or tokenizer_json into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "distilbert", "max_position_embeddings": 64}))
    if settings is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    for name, data in files.items():
        raw = data if isinstance(data, bytes) else data.encode()
        (folder / name.replace("_txt", ".txt").replace("_json", ".json")).write_bytes(raw)
    return folder


def load(folder: Path, special_tokens: SpecialTokens = "special", *, cache_bytes: int = 2**20) -> Tokenizer:
    return Tokenizer(Checkpoint(str(folder)), special_tokens, cache_bytes=cache_bytes)


def rows(tokens: Tokens) -> list[Row]:
    """Return ids, character offsets and word ids of each text."""
    cuts = tokens.offsets[1:-1]
    columns = [np.split(column, cuts) for column in (tokens.input_ids, tokens.start, tokens.end, tokens.word_ids)]
    return [
        (ids.tolist(), list(zip(start.tolist(), end.tolist(), strict=True)), words.tolist())
        for ids, start, end, words in zip(*columns, strict=True)
    ]


def hf_rows(hf: PreTrainedTokenizerBase, batch: list[str]) -> list[Row]:
    encoded = hf(batch, add_special_tokens=False, return_offsets_mapping=True)
    return [
        (ids, [tuple(pair) for pair in offsets], encoded.word_ids(i))
        for i, (ids, offsets) in enumerate(zip(encoded["input_ids"], encoded["offset_mapping"], strict=True))
    ]


def assert_equals_transformers(folder: Path) -> None:
    """Assert that the tokens of every text and the ids of the special tokens equal Transformers'."""
    tokenizer, hf = load(folder), AutoTokenizer.from_pretrained(folder)
    for text, actual, expected in zip(TEXTS, rows(tokenizer(TEXTS)), hf_rows(hf, TEXTS), strict=True):
        assert actual == expected, repr(text)
    assert (*tokenizer.specials, tokenizer.unk_id, tokenizer.mask_id) == (
        hf.cls_token_id,
        hf.sep_token_id,
        hf.unk_token_id,
        hf.mask_token_id,
    )

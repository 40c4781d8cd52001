#!/usr/bin/env python3
"""Differential test of the word cache against the tokenizers library.

Usage: python -m tests.model.tokenizer.tokenizer_differential --rows 1000000

It tokenizes difficult texts with every combination of the normalizer's flags. The cache is so small that it is often
cleared. The vocabulary has the words of a file (--vocab, by default that of the NER example) and every character that
occurs in the texts. The last line of the output is JSON.
"""

import argparse
import json
import tempfile
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa

from distilray.model.tokenizer.spec import SpecialTokens
from distilray.model.tokenizer.tokenizer import Tokenizer
from distilray.model.tokenizer.tokens import Tokens, encode
from tests.model.tokenizer.tokenizing import load, write
from tests.model.tokenizer.unicode_texts import KINDS, hard_texts
from tests.support import edit_config

VOCABULARY = Path(__file__).resolve().parents[3] / "examples/models/ner/vocab.txt"
FLAGS = [
    {"do_lower_case": lower, "strip_accents": strip, "tokenize_chinese_chars": chinese}
    for lower, strip, chinese in product((True, False), (None, True, False), (True, False))
]
MODES: tuple[SpecialTokens, ...] = ("text", "text", "text", "mask", "special")
SUBJECTS = len(FLAGS) * len(MODES)  # the lengths are coprime, so every pair occurs
BATCH = 10_000


def vocabulary(file: Path) -> str:
    """Return the content of a vocab.txt.

    It has the words of a file, their capitalised forms, and every character of the texts, also as a continuation.
    """
    words = file.read_text(encoding="utf-8").splitlines()
    characters = sorted({c for kind in KINDS for piece in kind for c in piece + piece.lower() if not c.isspace()})
    more = [*(word.capitalize() for word in words), *characters, *(f"##{c}" for c in characters)]
    return "\n".join(dict.fromkeys([*words, *more])) + "\n"


def tokenizer(folder: Path, words: str, number: int, cache_bytes: int) -> Tokenizer:
    """Make a tokenizer with the flags and the special tokens that belong to a number."""
    write(folder, {"tokenizer_class": "DistilBertTokenizer", **FLAGS[number % len(FLAGS)]}, vocab_txt=words)
    edit_config(folder, vocab_size=words.count("\n"))
    return load(folder, MODES[number % len(MODES)], cache_bytes=cache_bytes)


def count_differences(cached: Tokens, library: Tokens) -> int:
    """Count the texts whose ids, words or offsets differ."""
    lengths = np.diff(library.offsets)
    is_other = np.diff(cached.offsets) != lengths
    if is_other.any():
        return int(is_other.sum())
    row = np.repeat(np.arange(len(lengths)), lengths)
    columns = ("input_ids", "word_ids", "start", "end")
    return len({int(i) for name in columns for i in row[getattr(cached, name) != getattr(library, name)]})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--vocab", type=Path, default=VOCABULARY, help="a vocab.txt")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache-bytes", type=int, default=4 * 2**20)
    args = parser.parse_args()
    rows = tokens = differences = 0
    words = vocabulary(args.vocab)
    with tempfile.TemporaryDirectory() as folder:
        subjects = [tokenizer(Path(folder, str(i)), words, i, args.cache_bytes) for i in range(SUBJECTS)]
        for number in range(-(-args.rows // BATCH)):
            texts = hard_texts(min(BATCH, args.rows - rows), seed=args.seed + number)
            subject = subjects[number % len(subjects)]
            library = encode(subject._tokenizer, texts)
            differences += count_differences(
                subject(pa.array(texts, pa.large_string() if number % 2 else pa.string())), library
            )
            rows, tokens = rows + len(texts), tokens + len(library.input_ids)
    print(json.dumps({"rows": rows, "tokens": tokens, "differences": differences}))


if __name__ == "__main__":
    main()

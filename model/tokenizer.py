"""Text to ragged token arrays, with the real `tokenizers` library and DistilBERT's rules."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import tokenizers

from distilray.model.checkpoint import Checkpoint
from distilray.model.config import CheckpointError, parse_json_object
from distilray.model.packed import offsets_of

SpecialTokens = Literal["text", "special"]

_SPECIAL = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
# classes that take tokenizer.json as it is; every other lets tokenizer_config.json's flags decide
_FILE_AS_IT_IS = ("PreTrainedTokenizerFast", "TokenizersBackend")
# texts are encoded in slices of this many characters, to bound the library's own memory (~300 bytes a token)
_SLICE_CHARS = 4_000_000


@dataclass(frozen=True)
class Tokens:
    """The tokens of R texts end to end, without [CLS] and [SEP].

    offsets: int64 [R + 1], where each text's tokens start; input_ids, word_ids: int32 [N], words counted from
    0 in each text; start, end: int32 [N], in characters of the original text.
    """

    offsets: npt.NDArray[np.int64]
    input_ids: npt.NDArray[np.int32]
    word_ids: npt.NDArray[np.int32]
    start: npt.NDArray[np.int32]
    end: npt.NDArray[np.int32]


class Tokenizer:
    """A checkpoint's tokenizer; `special_tokens` says what a literal "[SEP]" in a text is."""

    def __init__(self, checkpoint: Checkpoint, special_tokens: SpecialTokens = "text") -> None:
        """Reads tokenizer.json or vocab.txt; CheckpointError if neither is there or either is broken."""
        positions = checkpoint.config.max_position_embeddings
        config = _config(checkpoint)
        spec = _spec(checkpoint, config)
        ids = _ids(spec)
        names = {role: _content(config.get(role, default)) for role, default in _SPECIAL.items()}
        lost = [
            name for role, name in names.items() if role in ("unk_token", "cls_token", "sep_token") and name not in ids
        ]
        if lost:
            raise CheckpointError(f"{checkpoint.uri}: the tokenizer's vocabulary lacks {', '.join(lost)}")
        self.cls_id, self.sep_id, self.unk_id = (ids[names[role]] for role in ("cls_token", "sep_token", "unk_token"))
        # a missing limit is written as 1e30 by some
        self.max_length = int(min(config.get("model_max_length") or 1e30, positions))
        self.token_chars = _token_chars(ids)
        spec["added_tokens"] = _added_tokens(spec, names, ids, special_tokens)
        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(json.dumps(spec))
        except Exception as error:  # the library raises bare Exception for a file it cannot use
            raise CheckpointError(f"{checkpoint.uri}: the tokenizer cannot be used: {error}") from error

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """Tokens of all texts, whole, whatever their length."""
        chars = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
        cuts = np.flatnonzero(np.diff(np.cumsum(chars) // _SLICE_CHARS)) + 1
        bounds = [0, *cuts.tolist(), len(texts)]
        parts = [self._encode(texts[a:b]) for a, b in pairwise(bounds)]
        lengths, ids, words, spans = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return Tokens(offsets_of(lengths), ids, words, spans[:, 0].copy(), spans[:, 1].copy())

    def _encode(self, texts: Sequence[str]) -> tuple[npt.NDArray[np.int32], ...]:
        # the library hands out one object a text; taking them apart here is the only walk over rows
        encodings = self._tokenizer.encode_batch(texts, add_special_tokens=False)
        lengths = np.fromiter(map(len, encodings), dtype=np.int32, count=len(encodings))
        total = int(lengths.sum())
        ids = np.fromiter(chain.from_iterable(e.ids for e in encodings), dtype=np.int32, count=total)
        words = np.fromiter(chain.from_iterable(e.word_ids for e in encodings), dtype=np.int32, count=total)
        pairs = chain.from_iterable(e.offsets for e in encodings)
        spans = np.fromiter(chain.from_iterable(pairs), dtype=np.int32, count=2 * total).reshape(-1, 2)
        return lengths, ids, words, spans


def _config(checkpoint: Checkpoint) -> dict[str, Any]:
    data = checkpoint.read("tokenizer_config.json")
    return {} if data is None else parse_json_object(data, checkpoint.where("tokenizer_config.json"))


def _spec(checkpoint: Checkpoint, config: dict[str, Any]) -> dict[str, Any]:
    """A tokenizer.json as a dict, from the file itself or from vocab.txt."""
    data = checkpoint.read("tokenizer.json")
    if data is None:
        spec = _wordpiece(_vocab(checkpoint), _content(config.get("unk_token", _SPECIAL["unk_token"])))
    else:
        spec = parse_json_object(data, checkpoint.where("tokenizer.json"))
    if data is None or config.get("tokenizer_class") not in _FILE_AS_IT_IS:
        spec["normalizer"] = {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": config.get("tokenize_chinese_chars", True),
            "strip_accents": config.get("strip_accents"),
            "lowercase": config.get("do_lower_case", True),
        }
    return spec | {"truncation": None, "padding": None, "post_processor": None}


def _vocab(checkpoint: Checkpoint) -> dict[str, int]:
    data = checkpoint.read("vocab.txt")
    if data is None:
        raise CheckpointError(f"neither tokenizer.json nor vocab.txt in {checkpoint.uri}")
    try:
        lines = data.decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{checkpoint.where('vocab.txt')}: expected UTF-8 ({error})") from error
    return {line.removesuffix("\r"): i for i, line in enumerate(lines)}


def _wordpiece(vocab: dict[str, int], unk_token: str) -> dict[str, Any]:
    model = {
        "type": "WordPiece",
        "unk_token": unk_token,
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
        "vocab": vocab,
    }
    return {"version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "BertPreTokenizer"}, "model": model}


def _content(token: str | dict[str, Any]) -> str:
    """A special token's text: config files hold it bare or in a dict."""
    return token if isinstance(token, str) else str(token["content"])


def _ids(spec: dict[str, Any]) -> dict[str, int]:
    vocab = spec.get("model", {}).get("vocab", {})
    added = {token["content"]: token["id"] for token in spec.get("added_tokens", [])}
    return {**vocab, **added} if isinstance(vocab, dict) else added


def _added_tokens(
    spec: dict[str, Any], names: dict[str, str], ids: dict[str, int], special_tokens: SpecialTokens
) -> list[dict[str, Any]]:
    """The added tokens matched in texts: a special one only if `special_tokens` says so.

    In a corpus of strangers' text a literal "[SEP]" that became the separator would be an injection.
    """
    added = {token["content"]: token for token in spec.get("added_tokens", [])}
    if special_tokens == "text":
        return [token for name, token in added.items() if not token.get("special") and name not in names.values()]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    missing = [
        {"id": ids[name], "content": name, **flags} for name in names.values() if name in ids and name not in added
    ]
    return sorted([*added.values(), *missing], key=lambda token: int(token["id"]))


def _token_chars(ids: dict[str, int]) -> npt.NDArray[np.int32]:
    """int32 [vocabulary]: how many characters each token's string has."""
    chars = np.zeros(max(ids.values()) + 1, dtype=np.int32)
    chars[list(ids.values())] = [len(token) for token in ids]
    return chars

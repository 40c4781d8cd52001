"""A checkpoint's tokenizer files as one `tokenizers` description, by the rules of Transformers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from distilray.model.checkpoint.checkpoint import Checkpoint
from distilray.model.errors import CheckpointError
from distilray.model.network.config import parse_json_object

SpecialTokens = Literal["text", "mask", "special"]

_ROLES = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
_PARTS = ("version", "normalizer", "pre_tokenizer", "model", "added_tokens")
_NEEDED = ("unk_token", "sep_token", "cls_token")
# classes that keep of tokenizer.json only the vocabulary, and build the rest from tokenizer_config.json's flags;
# every other class takes the file as it is
_BY_FLAGS = (None, "DistilBertTokenizer", "DistilBertTokenizerFast", "BertTokenizer", "BertTokenizerFast")
_FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": False}


@dataclass(frozen=True)
class TokenizerSpec:
    """description: what a tokenizer.json holds; ids: of all tokens; special: role -> token, such as "cls_token"."""

    description: dict[str, Any]
    ids: Mapping[str, int]
    special: Mapping[str, str]
    max_length: int


def read_spec(checkpoint: Checkpoint, special_tokens: SpecialTokens) -> TokenizerSpec:
    """From tokenizer.json or vocab.txt, and tokenizer_config.json.

    special_tokens: what a literal "[SEP]" in a text is: text, the separator ("special", as in Transformers); "mask": only
    the mask token is special. Raises CheckpointError for missing files and vocabularies that do not fit the model; a malformed file may raise anything.
    """
    model = checkpoint.config
    config = _config(checkpoint)
    description = _description(checkpoint, config)
    added = _added(description, config)
    vocabulary, more = description["model"]["vocab"], {name: token["id"] for name, token in added.items()}
    if odd := sorted(name for name in more.keys() & vocabulary.keys() if more[name] != vocabulary[name]):
        raise CheckpointError(
            f"{checkpoint.uri}: {', '.join(odd)} has another id among added tokens than in the vocabulary"
        )
    ids = {**vocabulary, **more}
    special = {role: _content(token) for role, default in _ROLES.items() if (token := config.get(role, default))}
    _check(ids, special, checkpoint)
    model_part = description["model"]
    if model_part.get("type") == "WordPiece" and model_part["unk_token"] not in model_part["vocab"]:
        raise CheckpointError(f"{checkpoint.uri}: the tokenizer's vocabulary lacks {model_part['unk_token']}")
    flags = _FLAGS | {"normalized": False, "special": True}
    roles = {"text": (), "mask": ("mask_token",), "special": tuple(special)}[special_tokens]
    meant = {
        name: flags | {"id": ids[name], "content": name}
        for role in roles
        if role in special and (name := special[role]) in ids
    }
    if special_tokens != "special":
        hidden = {*special.values(), *(name for name, token in added.items() if token["special"])} - meant.keys()
        added = {name: token for name, token in added.items() if name not in hidden}
        description["model"] |= {"vocab": _unreachable(description["model"]["vocab"], hidden - {special["unk_token"]})}
    added = meant | added
    description["added_tokens"] = sorted(added.values(), key=lambda token: int(token["id"]))
    # a missing limit is written as 1e30 by some
    limit = min(config.get("model_max_length") or 1e30, model.max_position_embeddings)
    return TokenizerSpec(description, ids, special, int(limit))


def _config(checkpoint: Checkpoint) -> dict[str, Any]:
    data = checkpoint.read("tokenizer_config.json")
    return {} if data is None else parse_json_object(data, checkpoint.where("tokenizer_config.json"))


def _description(checkpoint: Checkpoint, config: Mapping[str, Any]) -> dict[str, Any]:
    data = checkpoint.read("tokenizer.json")
    unk_token = _content(config.get("unk_token", _ROLES["unk_token"]))
    if data is None:
        return _wordpiece(_vocab(checkpoint), unk_token, config) | {"added_tokens": []}
    stored = parse_json_object(data, checkpoint.where("tokenizer.json"))
    # what makes tokens of text, and no more: two files that agree on it make equal descriptions
    stored = {"added_tokens": []} | {part: stored[part] for part in _PARTS if part in stored}
    if config.get("tokenizer_class") not in _BY_FLAGS:
        return stored
    return stored | _wordpiece(stored["model"]["vocab"], unk_token, config)


def _vocab(checkpoint: Checkpoint) -> dict[str, int]:
    """vocab.txt: line number = id."""
    data = checkpoint.read("vocab.txt")
    if data is None:
        raise CheckpointError(f"neither tokenizer.json nor vocab.txt in {checkpoint.uri}")
    try:
        lines = data.decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{checkpoint.where('vocab.txt')}: expected UTF-8 ({error})") from error
    return {line.rstrip(): i for i, line in enumerate(lines)}


def _wordpiece(vocab: dict[str, int], unk_token: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """BERT's own tokenizer over a vocabulary (Devlin et al. 2019, arXiv:1810.04805)."""
    return {
        "version": "1.0",
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": config.get("tokenize_chinese_chars", True),
            "strip_accents": config.get("strip_accents"),
            "lowercase": config.get("do_lower_case", True),
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "model": {
            "type": "WordPiece",
            "unk_token": unk_token,
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": vocab,
        },
    }


def _added(description: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Added tokens by their text; slow tokenizers save theirs in tokenizer_config.json only."""
    stored = {token["content"]: _FLAGS | token for token in description["added_tokens"]}
    slow = {
        token["content"]: {name: token.get(name, default) for name, default in _FLAGS.items()}
        | {"id": int(i), "content": token["content"]}
        for i, token in config.get("added_tokens_decoder", {}).items()
    }
    return slow | stored


def _content(token: Any) -> str:
    """A special token's text: config files hold it bare or in a dict."""
    text = token["content"] if isinstance(token, dict) else token
    if not isinstance(text, str):
        raise TypeError(f"expected a token's text, got {token!r}")
    return text


def _unreachable(vocab: Mapping[str, int], hidden: set[str]) -> dict[str, int]:
    """The vocabulary without a way from text to the hidden tokens: in strangers' text they would be an injection.

    Renamed, not removed: the library numbers added tokens by the vocabulary's size.
    """
    return {f" {token} " if token in hidden else token: i for token, i in vocab.items()}


def _check(ids: Mapping[str, int], special: Mapping[str, str], checkpoint: Checkpoint) -> None:
    if lost := [special.get(role, role) for role in _NEEDED if special.get(role) not in ids]:
        raise CheckpointError(f"{checkpoint.uri}: the tokenizer's vocabulary lacks {', '.join(lost)}")
    if not all(type(number) is int and number >= 0 for number in ids.values()):
        raise CheckpointError(f"{checkpoint.uri}: the vocabulary has an id that is no whole number of 0 or more")
    if (last := max(ids.values())) >= checkpoint.config.vocab_size:
        size = checkpoint.config.vocab_size
        raise CheckpointError(f"{checkpoint.uri}: the vocabulary reaches id {last}, the model's vocab_size is {size}")

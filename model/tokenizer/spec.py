"""A checkpoint's tokenizer files as one description for the `tokenizers` library, by the rules of Transformers."""

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
_DESCRIPTION_PARTS = ("version", "normalizer", "pre_tokenizer", "model", "added_tokens")
_REQUIRED_ROLES = ("unk_token", "sep_token", "cls_token")
# these classes use only the vocabulary of tokenizer.json and build the rest from the flags of tokenizer_config.json;
# every other class uses the whole file
_CLASSES_BY_FLAGS = (None, "DistilBertTokenizer", "DistilBertTokenizerFast", "BertTokenizer", "BertTokenizerFast")
_DEFAULT_FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": False}


@dataclass(frozen=True)
class TokenizerSpec:
    """The content of a tokenizer.json, and the properties of its tokens.

    description: the content. ids: the ids of all tokens. special: the token of each role, such as "cls_token".
    max_length: the maximum number of tokens of a sequence.
    """

    description: dict[str, Any]
    ids: Mapping[str, int]
    special: Mapping[str, str]
    max_length: int


def read_spec(checkpoint: Checkpoint, special_tokens: SpecialTokens) -> TokenizerSpec:
    """Read tokenizer.json or vocab.txt, and tokenizer_config.json.

    special_tokens: how a literal "[SEP]" in a text is treated. "text": as text. "special": as the separator, as in
    Transformers. "mask": only the mask token is special.

    Raises CheckpointError for missing files and for a vocabulary that does not fit the model. A malformed file may
    raise any exception.
    """
    model_config = checkpoint.config
    config = _config(checkpoint)
    description = _description(checkpoint, config)
    added = _added_tokens(description, config)
    vocabulary, added_ids = description["model"]["vocab"], {name: token["id"] for name, token in added.items()}
    if conflicting := sorted(
        name for name in added_ids.keys() & vocabulary.keys() if added_ids[name] != vocabulary[name]
    ):
        raise CheckpointError(
            f"{checkpoint.uri}: expected one id for each token, {', '.join(conflicting)} has another id among "
            "added tokens than in the vocabulary"
        )
    ids = {**vocabulary, **added_ids}
    special = {role: _token_text(token) for role, default in _ROLES.items() if (token := config.get(role, default))}
    _check_vocabulary(ids, special, checkpoint)
    model = description["model"]
    if model.get("type") == "WordPiece" and model["unk_token"] not in model["vocab"]:
        raise CheckpointError(f"{checkpoint.uri}: the tokenizer's vocabulary does not contain {model['unk_token']}")
    special_flags = _DEFAULT_FLAGS | {"normalized": False, "special": True}
    roles = {"text": (), "mask": ("mask_token",), "special": tuple(special)}[special_tokens]
    visible = {
        name: special_flags | {"id": ids[name], "content": name}
        for role in roles
        if role in special and (name := special[role]) in ids
    }
    if special_tokens != "special":
        hidden = {*special.values(), *(name for name, token in added.items() if token["special"])} - visible.keys()
        added = {name: token for name, token in added.items() if name not in hidden}
        description["model"] |= {"vocab": _hide_tokens(description["model"]["vocab"], hidden - {special["unk_token"]})}
    added = visible | added
    description["added_tokens"] = sorted(added.values(), key=lambda token: int(token["id"]))
    # some files write 1e30 for no limit
    max_length = min(config.get("model_max_length") or 1e30, model_config.max_position_embeddings)
    return TokenizerSpec(description, ids, special, int(max_length))


def _config(checkpoint: Checkpoint) -> dict[str, Any]:
    data = checkpoint.read("tokenizer_config.json")
    return {} if data is None else parse_json_object(data, checkpoint.where("tokenizer_config.json"))


def _description(checkpoint: Checkpoint, config: Mapping[str, Any]) -> dict[str, Any]:
    data = checkpoint.read("tokenizer.json")
    unk_token = _token_text(config.get("unk_token", _ROLES["unk_token"]))
    if data is None:
        return _wordpiece_description(_read_vocab(checkpoint), unk_token, config) | {"added_tokens": []}
    stored = parse_json_object(data, checkpoint.where("tokenizer.json"))
    # only the parts that decide the tokens: two files that agree on them give equal descriptions
    stored = {"added_tokens": []} | {part: stored[part] for part in _DESCRIPTION_PARTS if part in stored}
    if config.get("tokenizer_class") not in _CLASSES_BY_FLAGS:
        return stored
    return stored | _wordpiece_description(stored["model"]["vocab"], unk_token, config)


def _read_vocab(checkpoint: Checkpoint) -> dict[str, int]:
    """Read vocab.txt, where the number of a line is an id."""
    data = checkpoint.read("vocab.txt")
    if data is None:
        raise CheckpointError(f"expected a tokenizer, got neither tokenizer.json nor vocab.txt in {checkpoint.uri}")
    try:
        lines = data.decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{checkpoint.where('vocab.txt')}: expected UTF-8 ({error})") from error
    return {line.rstrip(): i for i, line in enumerate(lines)}


def _wordpiece_description(vocab: dict[str, int], unk_token: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Describe BERT's own tokenizer over a vocabulary (Devlin et al. 2019, arXiv:1810.04805)."""
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


def _added_tokens(description: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the added tokens by their text. Slow tokenizers save them in tokenizer_config.json only."""
    stored = {token["content"]: _DEFAULT_FLAGS | token for token in description["added_tokens"]}
    from_config = {
        token["content"]: {name: token.get(name, default) for name, default in _DEFAULT_FLAGS.items()}
        | {"id": int(token_id), "content": token["content"]}
        for token_id, token in config.get("added_tokens_decoder", {}).items()
    }
    return from_config | stored


def _token_text(token: Any) -> str:
    """Return the text of a special token. Config files hold the text, or a dict that contains it."""
    text = token["content"] if isinstance(token, dict) else token
    if not isinstance(text, str):
        raise TypeError(f"expected a token's text, got {token!r}")
    return text


def _hide_tokens(vocab: Mapping[str, int], hidden: set[str]) -> dict[str, int]:
    """Return a vocabulary in which no text can match the hidden tokens. Otherwise untrusted text could inject them.

    Hidden tokens are renamed, not removed, because the library numbers added tokens by the size of the vocabulary.
    """
    return {f" {token} " if token in hidden else token: i for token, i in vocab.items()}


def _check_vocabulary(ids: Mapping[str, int], special: Mapping[str, str], checkpoint: Checkpoint) -> None:
    if missing := [special.get(role, role) for role in _REQUIRED_ROLES if special.get(role) not in ids]:
        raise CheckpointError(f"{checkpoint.uri}: the tokenizer's vocabulary does not contain {', '.join(missing)}")
    if not all(type(number) is int and number >= 0 for number in ids.values()):
        raise CheckpointError(f"{checkpoint.uri}: expected ids that are integers of at least 0 in the vocabulary")
    if (max_id := max(ids.values())) >= checkpoint.config.vocab_size:
        size = checkpoint.config.vocab_size
        raise CheckpointError(f"{checkpoint.uri}: the vocabulary has id {max_id}, but the model's vocab_size is {size}")

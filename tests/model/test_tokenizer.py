"""Tokens equal those of Transformers' fast tokenizer; literal special tokens in a text are text unless asked for."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from distilray.model import tokenizer as module
from distilray.model.checkpoint import Checkpoint
from distilray.model.config import CheckpointError
from distilray.model.tokenizer import Tokenizer, Tokens
from tests.support import HARD_TEXTS, PIECES, SPECIAL, WORDS, random_texts, vocabulary

TEXTS = [
    *HARD_TEXTS,
    *random_texts(30, seed=9),
    "",
    " ",
    "\u0301",
    "[SEP][sep][ MASK ]",
    "Caf\u00c9 \u00c9COLE E\u0301",
]
SPECIAL_IDS = range(len(SPECIAL))
VOCABULARY_TXT = "\n".join(vocabulary()) + "\n"

# words of the vocabulary, whatever upsets a tokenizer, and anything else that is Unicode
snippets = st.sampled_from([*WORDS, *PIECES, *SPECIAL, *"\u0301\u0130\ufb01\u5317 \t\n\r\u00a0\u200b\ufeff\x00[]#.A"])
texts = st.lists(snippets | st.text(max_size=8), max_size=12).map("".join) | st.text(max_size=40)

Row = tuple[list[int], list[tuple[int, int]], list[int]]


def write(folder: Path, settings: dict[str, Any] | None = None, **files: str | bytes) -> Path:
    """A folder with a config.json, a tokenizer_config.json of `settings`, and vocab_txt or tokenizer_json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "distilbert", "max_position_embeddings": 64}))
    if settings is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    for name, data in files.items():
        raw = data if isinstance(data, bytes) else data.encode()
        (folder / name.replace("_txt", ".txt").replace("_json", ".json")).write_bytes(raw)
    return folder


def load(folder: Path, special_tokens: module.SpecialTokens = "special") -> Tokenizer:
    return Tokenizer(Checkpoint(str(folder)), special_tokens)


def rows(tokens: Tokens) -> list[Row]:
    """Ids, character offsets and word ids of each text."""
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


def assert_parity(folder: Path) -> None:
    """Every text, and the ids of the special tokens."""
    ours, hf = load(folder), AutoTokenizer.from_pretrained(folder)
    for text, mine, wanted in zip(TEXTS, rows(ours(TEXTS)), hf_rows(hf, TEXTS), strict=True):
        assert mine == wanted, repr(text)
    assert (ours.cls_id, ours.sep_id, ours.unk_id) == (hf.cls_token_id, hf.sep_token_id, hf.unk_token_id)


@dataclass(frozen=True)
class Both:
    """Our tokenizer in both modes, and Transformers'."""

    special: Tokenizer
    text: Tokenizer
    hf: PreTrainedTokenizerBase


@pytest.fixture(scope="module", params=[True, False], ids=["uncased", "cased"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    settings = {"tokenizer_class": "DistilBertTokenizer", "do_lower_case": request.param}
    folder = write(tmp_path_factory.mktemp("tokenizer"), settings, vocab_txt=VOCABULARY_TXT)
    return Both(load(folder, "special"), load(folder, "text"), AutoTokenizer.from_pretrained(folder))


@given(st.lists(texts, min_size=1, max_size=4))
def test_any_text_equals_transformers(both: Both, batch: list[str]) -> None:
    assert rows(both.special(batch)) == hf_rows(both.hf, batch)


@given(texts)
def test_a_literal_special_token_is_text(both: Both, text: str) -> None:
    assert set(both.text([text]).input_ids.tolist()) & set(SPECIAL_IDS) <= {both.text.unk_id}


@given(texts)
@example("[SEP]")
@example("a [MASK] b")
def test_both_modes_agree_on_texts_without_special_tokens(both: Both, text: str) -> None:
    if not any(name in text for name in SPECIAL):
        assert rows(both.text([text])) == rows(both.special([text]))


def test_only_the_special_mode_gives_special_ids(both: Both) -> None:
    text = " ".join(SPECIAL)
    assert both.special([text]).input_ids.tolist() == list(SPECIAL_IDS)
    ((tokens, offsets, _),) = rows(both.text([text]))
    assert not set(tokens) - {both.text.unk_id} & set(SPECIAL_IDS)
    assert "".join(text[start:end] for start, end in offsets) == text.replace(" ", "")


@given(texts)
def test_offsets_lie_in_the_text_and_words_are_numbered_from_zero(both: Both, text: str) -> None:
    ((_, offsets, words),) = rows(both.text([text]))
    assert all(0 <= start <= end <= len(text) for start, end in offsets)
    assert sorted(offsets) == offsets
    assert sorted(words) == words
    assert list(dict.fromkeys(words)) == list(range(len(set(words))))


# the files of a checkpoint

FLAGS: tuple[dict[str, Any], ...] = (
    {},
    {"do_lower_case": True},
    {"do_lower_case": False},
    {"do_lower_case": True, "strip_accents": False},
    {"do_lower_case": False, "strip_accents": True},
    {"do_lower_case": True, "strip_accents": None},
    {"tokenize_chinese_chars": False},
    {"do_lower_case": False, "tokenize_chinese_chars": False, "strip_accents": True},
)


@pytest.mark.parametrize("flags", FLAGS, ids=str)
def test_a_vocabulary_with_flags_equals_transformers(tmp_path: Path, flags: dict[str, Any]) -> None:
    assert_parity(write(tmp_path, flags | {"tokenizer_class": "DistilBertTokenizer"}, vocab_txt=VOCABULARY_TXT))


def test_a_bare_vocabulary_equals_transformers(tmp_path: Path) -> None:
    assert_parity(write(tmp_path, vocab_txt=VOCABULARY_TXT))


@pytest.mark.parametrize("end", ["\r\n", " \n"], ids=["windows", "trailing space"])
def test_line_ends_of_a_vocabulary_change_nothing(tmp_path: Path, end: str) -> None:
    plain = write(tmp_path / "plain", vocab_txt=VOCABULARY_TXT)
    other = write(tmp_path / "other", vocab_txt=VOCABULARY_TXT.replace("\n", end))
    assert_parity(other)
    assert rows(load(other)(TEXTS)) == rows(load(plain)(TEXTS))


@pytest.fixture(scope="module")
def tokenizer_json(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """A tokenizer.json as Transformers saves it, with some of its top-level fields changed."""
    folder = write(tmp_path_factory.mktemp("saved"), vocab_txt=VOCABULARY_TXT)
    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
    saved = (folder / "tokenizer.json").read_text()
    return lambda **fields: json.dumps(json.loads(saved) | fields)


@pytest.mark.parametrize("flags", FLAGS, ids=str)
def test_what_transformers_saves_equals_transformers(tmp_path: Path, flags: dict[str, Any]) -> None:
    folder = write(tmp_path / "from", flags, vocab_txt=VOCABULARY_TXT)
    saved = write(tmp_path / "saved")
    AutoTokenizer.from_pretrained(folder).save_pretrained(saved)
    assert not (saved / "vocab.txt").exists()
    assert_parity(saved)
    assert rows(load(saved)(TEXTS)) == rows(load(folder)(TEXTS))


NAMES = {"unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]", "mask_token": "[MASK]"}
CASED = {
    "type": "BertNormalizer",
    "clean_text": True,
    "handle_chinese_chars": True,
    "strip_accents": None,
    "lowercase": False,
}


@pytest.mark.parametrize(
    "tokenizer_class",
    [None, "DistilBertTokenizer", "DistilBertTokenizerFast", "BertTokenizer", "BertTokenizerFast"],
)
@pytest.mark.parametrize("flags", [{}, {"do_lower_case": True}, {"do_lower_case": False}], ids=str)
def test_flags_win_over_the_file(
    tmp_path: Path, tokenizer_json: Callable[..., str], tokenizer_class: str | None, flags: dict[str, Any]
) -> None:
    settings = flags if tokenizer_class is None else flags | {"tokenizer_class": tokenizer_class}
    folder = write(tmp_path, settings, tokenizer_json=tokenizer_json(normalizer=CASED))
    assert_parity(folder)
    lowered = write(tmp_path / "vocabulary", flags, vocab_txt=VOCABULARY_TXT)
    assert rows(load(folder)(TEXTS)) == rows(load(lowered)(TEXTS))


@pytest.mark.parametrize(
    "tokenizer_class",
    ["PreTrainedTokenizerFast", "TokenizersBackend", "PreTrainedTokenizer", "ATokenizerOfSomeoneElse"],
)
def test_a_general_class_takes_the_file_as_it_is(
    tmp_path: Path, tokenizer_json: Callable[..., str], tokenizer_class: str
) -> None:
    settings = {"tokenizer_class": tokenizer_class, "do_lower_case": True, **NAMES}
    folder = write(tmp_path, settings, tokenizer_json=tokenizer_json(normalizer=CASED))
    assert_parity(folder)
    cased = write(tmp_path / "vocabulary", {"do_lower_case": False}, vocab_txt=VOCABULARY_TXT)
    assert rows(load(folder)(TEXTS)) == rows(load(cased)(TEXTS))


def test_tokenizer_json_wins_over_vocab_txt(tmp_path: Path, tokenizer_json: Callable[..., str]) -> None:
    assert_parity(write(tmp_path, {}, tokenizer_json=tokenizer_json(), vocab_txt="\n".join(SPECIAL)))


@pytest.mark.parametrize("special", [True, False], ids=["special", "not special"])
@pytest.mark.parametrize("tokenizer_class", ["DistilBertTokenizer", "PreTrainedTokenizerFast"])
def test_added_tokens_equal_transformers(
    tmp_path: Path, tokenizer_json: Callable[..., str], tokenizer_class: str, special: bool
) -> None:
    """A special one is text in our own mode, one that is not special is matched in both."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": special}
    added = json.loads(tokenizer_json())["added_tokens"]
    token = {"id": len(vocabulary()), "content": "<ent>", **flags}
    folder = write(
        tmp_path, {"tokenizer_class": tokenizer_class}, tokenizer_json=tokenizer_json(added_tokens=[*added, token])
    )
    texts = ["war<ent>peace", "<ENT> <ent>"]
    assert rows(load(folder)(texts)) == hf_rows(AutoTokenizer.from_pretrained(folder), texts)
    assert (token["id"] in load(folder, "text")(texts).input_ids) == (not special)


def test_tokens_that_only_the_settings_add_equal_transformers(tmp_path: Path) -> None:
    """As Transformers' slow tokenizers save them: vocab.txt without them, tokenizer_config.json with them."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    added = {str(len(vocabulary())): {"content": "<ent>", **flags}}
    folder = write(tmp_path, {"added_tokens_decoder": added}, vocab_txt=VOCABULARY_TXT)
    texts = ["war<ent>peace"]
    assert rows(load(folder)(texts)) == hf_rows(AutoTokenizer.from_pretrained(folder), texts)


def test_special_tokens_of_other_names_equal_transformers(tmp_path: Path) -> None:
    names = {
        "unk_token": "<unk>",
        "cls_token": "<s>",
        "sep_token": "</s>",
        "pad_token": "<pad>",
        "mask_token": "<mask>",
    }
    words = ["<pad>", "<unk>", "<s>", "</s>", "<mask>", *vocabulary()[len(SPECIAL) :]]
    folder = write(tmp_path, {"tokenizer_class": "DistilBertTokenizer"} | names, vocab_txt="\n".join(words))
    assert_parity(folder)
    assert load(folder, "special")(["</s>"]).input_ids.tolist() == [3]
    assert not set(load(folder, "text")(["</s> <s> <mask>"]).input_ids.tolist()) & {2, 3, 4}


def test_a_special_token_that_its_pre_tokenizer_leaves_whole_is_text_too(
    tmp_path: Path, tokenizer_json: Callable[..., str]
) -> None:
    settings = {"tokenizer_class": "PreTrainedTokenizerFast"}
    file = tokenizer_json(normalizer=None, pre_tokenizer={"type": "WhitespaceSplit"})
    tokens = load(write(tmp_path, settings, tokenizer_json=file), "text")(["war [SEP] peace"])
    assert 3 not in tokens.input_ids


@pytest.mark.parametrize(
    ("settings", "limit"),
    [
        (None, 64),
        ({}, 64),
        ({"model_max_length": None}, 64),
        ({"model_max_length": 1000000000000000019884624838656}, 64),
        ({"model_max_length": 1e30}, 64),
        ({"model_max_length": 512}, 64),
        ({"model_max_length": 20}, 20),
    ],
    ids=str,
)
def test_the_limit_never_exceeds_the_positions(tmp_path: Path, settings: dict[str, Any] | None, limit: int) -> None:
    assert load(write(tmp_path, settings, vocab_txt=VOCABULARY_TXT)).max_length == limit


def test_token_chars_are_the_lengths_of_the_tokens(tmp_path: Path) -> None:
    chars = load(write(tmp_path, vocab_txt=VOCABULARY_TXT)).token_chars
    assert chars.tolist() == [len(token) for token in vocabulary()]


# broken files


WHOLE = {"vocab_txt": VOCABULARY_TXT}


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        pytest.param({}, "neither tokenizer.json nor vocab.txt", id="no file"),
        pytest.param({"vocab_txt": b"[PAD]\n\xff\xfe"}, "vocab.txt: expected UTF-8", id="no UTF-8"),
        pytest.param({"vocab_txt": ""}, "lacks [UNK], [SEP], [CLS]", id="empty vocabulary"),
        pytest.param({"vocab_txt": "[UNK]\n[CLS]\nword\n"}, "lacks [SEP]", id="no [SEP]"),
        pytest.param({"tokenizer_json": ""}, "tokenizer.json: not valid JSON", id="empty file"),
        pytest.param({"tokenizer_json": "[]"}, "tokenizer.json: expected a JSON object, got list", id="a list"),
        pytest.param({"tokenizer_json": "{}"}, "cannot be used", id="an empty object"),
        pytest.param({"tokenizer_json": '{"model": null}'}, "", id="model is null"),
        pytest.param({"tokenizer_json": '{"model": []}'}, "", id="model is a list"),
        pytest.param({"tokenizer_json": '{"model": {"vocab": ["[UNK]"]}}'}, "cannot be used", id="vocab is a list"),
        pytest.param({"tokenizer_json": '{"model": {}, "added_tokens": null}'}, "", id="added_tokens is null"),
        pytest.param({"tokenizer_json": '{"model": {}, "added_tokens": [{}]}'}, "", id="an added token without a name"),
        pytest.param(
            {
                "tokenizer_json": '{"model": {"vocab": {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2}}}',
                "tokenizer_config_json": '{"tokenizer_class": "PreTrainedTokenizerFast"}',
            },
            "cannot be used",
            id="model without a type",
        ),
        pytest.param(
            {"tokenizer_json": '{"model": {"type": "WordPiece", "vocab": {"[UNK]": "0", "[CLS]": 1, "[SEP]": 2}}}'},
            "",
            id="an id that is no number",
        ),
        pytest.param(WHOLE | {"tokenizer_config_json": "{"}, "tokenizer_config.json: not valid JSON", id="settings"),
        pytest.param(WHOLE | {"tokenizer_config_json": '{"do_lower_case": "yes"}'}, "cannot be used", id="a flag"),
        pytest.param(WHOLE | {"tokenizer_config_json": '{"cls_token": 7}'}, "", id="cls_token is a number"),
        pytest.param(WHOLE | {"tokenizer_config_json": '{"model_max_length": "many"}'}, "", id="model_max_length"),
    ],
)
def test_a_broken_file_is_a_checkpoint_error(tmp_path: Path, files: dict[str, Any], complaint: str) -> None:
    folder = write(tmp_path, **files)
    with pytest.raises(CheckpointError) as caught:
        load(folder)
    assert complaint in str(caught.value)
    assert str(folder) in str(caught.value)


def test_a_vocabulary_larger_than_the_models_is_a_checkpoint_error(tmp_path: Path) -> None:
    """On a GPU an id without an embedding ends the process."""
    folder = write(tmp_path, vocab_txt=VOCABULARY_TXT)
    (folder / "config.json").write_text(json.dumps({"model_type": "distilbert", "vocab_size": len(vocabulary()) - 1}))
    with pytest.raises(CheckpointError, match="vocab"):
        load(folder)


def test_a_special_token_set_to_null_is_one_the_model_does_not_have(tmp_path: Path) -> None:
    assert_parity(write(tmp_path, {"mask_token": None}, vocab_txt=VOCABULARY_TXT))


# many texts


@pytest.mark.parametrize("slice_chars", [1, 7, 100, 10**6])
def test_many_texts_give_what_each_gives_alone(both: Both, monkeypatch: pytest.MonkeyPatch, slice_chars: int) -> None:
    alone = [row for text in TEXTS for row in rows(both.text([text]))]
    monkeypatch.setattr(module, "_SLICE_CHARS", slice_chars)
    assert rows(both.text(TEXTS)) == alone


@pytest.mark.parametrize("batch", [[], [""], ["", "", ""]], ids=str)
def test_no_text_gives_no_tokens(both: Both, batch: list[str]) -> None:
    tokens = both.text(batch)
    assert tokens.offsets.tolist() == [0] * (len(batch) + 1)
    assert not any(len(column) for column in (tokens.input_ids, tokens.word_ids, tokens.start, tokens.end))


def test_columns_have_the_documented_types(both: Both) -> None:
    tokens = both.text(["a b"])
    assert tokens.offsets.dtype == np.int64
    assert {c.dtype for c in (tokens.input_ids, tokens.word_ids, tokens.start, tokens.end)} == {np.dtype(np.int32)}

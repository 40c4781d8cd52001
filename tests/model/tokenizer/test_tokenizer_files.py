"""Tests of the files of a tokenizer: every saved form equals Transformers, and a broken file is a CheckpointError."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from distilray.model.errors import CheckpointError
from tests.model.tokenizer.tokenizing import (
    TEXTS,
    VOCABULARY_TXT,
    assert_equals_transformers,
    hf_rows,
    load,
    rows,
    write,
)
from tests.support import SPECIAL, edit_config, vocabulary

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
    assert_equals_transformers(
        write(tmp_path, flags | {"tokenizer_class": "DistilBertTokenizer"}, vocab_txt=VOCABULARY_TXT)
    )


def test_a_bare_vocabulary_equals_transformers(tmp_path: Path) -> None:
    assert_equals_transformers(write(tmp_path, vocab_txt=VOCABULARY_TXT))


@pytest.mark.parametrize("end", ["\r\n", " \n"], ids=["windows", "trailing space"])
def test_line_ends_of_a_vocabulary_do_not_change_tokens(tmp_path: Path, end: str) -> None:
    plain = write(tmp_path / "plain", vocab_txt=VOCABULARY_TXT)
    other = write(tmp_path / "other", vocab_txt=VOCABULARY_TXT.replace("\n", end))
    assert_equals_transformers(other)
    assert rows(load(other)(TEXTS)) == rows(load(plain)(TEXTS))


@pytest.fixture(scope="module")
def tokenizer_json(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """A function that returns the tokenizer.json of Transformers with some top-level fields changed."""
    folder = write(tmp_path_factory.mktemp("saved"), vocab_txt=VOCABULARY_TXT)
    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
    saved = (folder / "tokenizer.json").read_text()
    return lambda **fields: json.dumps(json.loads(saved) | fields)


@pytest.mark.parametrize("flags", FLAGS, ids=str)
def test_a_tokenizer_that_transformers_saved_equals_transformers(tmp_path: Path, flags: dict[str, Any]) -> None:
    folder = write(tmp_path / "from", flags, vocab_txt=VOCABULARY_TXT)
    saved = write(tmp_path / "saved")
    AutoTokenizer.from_pretrained(folder).save_pretrained(saved)
    assert not (saved / "vocab.txt").exists()
    assert_equals_transformers(saved)
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
def test_flags_override_the_file(
    tmp_path: Path, tokenizer_json: Callable[..., str], tokenizer_class: str | None, flags: dict[str, Any]
) -> None:
    settings = flags if tokenizer_class is None else flags | {"tokenizer_class": tokenizer_class}
    folder = write(tmp_path, settings, tokenizer_json=tokenizer_json(normalizer=CASED))
    assert_equals_transformers(folder)
    lowered = write(tmp_path / "vocabulary", flags, vocab_txt=VOCABULARY_TXT)
    assert rows(load(folder)(TEXTS)) == rows(load(lowered)(TEXTS))


@pytest.mark.parametrize(
    "tokenizer_class",
    ["PreTrainedTokenizerFast", "TokenizersBackend", "PreTrainedTokenizer", "ATokenizerOfSomeoneElse"],
)
def test_a_general_class_uses_the_file_unchanged(
    tmp_path: Path, tokenizer_json: Callable[..., str], tokenizer_class: str
) -> None:
    settings = {"tokenizer_class": tokenizer_class, "do_lower_case": True, **NAMES}
    folder = write(tmp_path, settings, tokenizer_json=tokenizer_json(normalizer=CASED))
    assert_equals_transformers(folder)
    cased = write(tmp_path / "vocabulary", {"do_lower_case": False}, vocab_txt=VOCABULARY_TXT)
    assert rows(load(folder)(TEXTS)) == rows(load(cased)(TEXTS))


def test_a_token_with_two_ids_is_an_error(tmp_path: Path, tokenizer_json: Callable[..., str]) -> None:
    """The library uses the id of the vocabulary and ignores the other one."""
    description = json.loads(tokenizer_json())
    description["model"]["vocab"]["[UNK]"] = 2**31
    with pytest.raises(CheckpointError, match=r"\[UNK\] has another id among added tokens than in the vocabulary"):
        load(write(tmp_path, {}, tokenizer_json=json.dumps(description)))


def test_tokenizer_json_overrides_vocab_txt(tmp_path: Path, tokenizer_json: Callable[..., str]) -> None:
    assert_equals_transformers(write(tmp_path, {}, tokenizer_json=tokenizer_json(), vocab_txt="\n".join(SPECIAL)))


@pytest.mark.parametrize("special", [True, False], ids=["special", "not special"])
@pytest.mark.parametrize("tokenizer_class", ["DistilBertTokenizer", "PreTrainedTokenizerFast"])
def test_added_tokens_equal_transformers(
    tmp_path: Path, tokenizer_json: Callable[..., str], tokenizer_class: str, special: bool
) -> None:
    """A special added token is text in the mode "text". Both modes match an added token that is not special."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": special}
    added = json.loads(tokenizer_json())["added_tokens"]
    token = {"id": len(vocabulary()), "content": "<ent>", **flags}
    folder = write(
        tmp_path, {"tokenizer_class": tokenizer_class}, tokenizer_json=tokenizer_json(added_tokens=[*added, token])
    )
    texts = ["war<ent>peace", "<ENT> <ent>"]
    assert rows(load(folder)(texts)) == hf_rows(AutoTokenizer.from_pretrained(folder), texts)
    assert (token["id"] in load(folder, "text")(texts).input_ids) == (not special)


def test_tokens_added_only_by_the_settings_equal_transformers(tmp_path: Path) -> None:
    """Transformers' slow tokenizers save added tokens only in tokenizer_config.json, not in vocab.txt."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    added = {str(len(vocabulary())): {"content": "<ent>", **flags}}
    folder = write(tmp_path, {"added_tokens_decoder": added}, vocab_txt=VOCABULARY_TXT)
    texts = ["war<ent>peace"]
    assert rows(load(folder)(texts)) == hf_rows(AutoTokenizer.from_pretrained(folder), texts)


def test_special_tokens_with_other_names_equal_transformers(tmp_path: Path) -> None:
    names = {
        "unk_token": "<unk>",
        "cls_token": "<s>",
        "sep_token": "</s>",
        "pad_token": "<pad>",
        "mask_token": "<mask>",
    }
    words = ["<pad>", "<unk>", "<s>", "</s>", "<mask>", *vocabulary()[len(SPECIAL) :]]
    folder = write(tmp_path, {"tokenizer_class": "DistilBertTokenizer"} | names, vocab_txt="\n".join(words))
    assert_equals_transformers(folder)
    assert load(folder, "special")(["</s>"]).input_ids.tolist() == [3]
    assert not set(load(folder, "text")(["</s> <s> <mask>"]).input_ids.tolist()) & {2, 3, 4}


def test_a_special_token_that_its_pre_tokenizer_does_not_split_is_text(
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


def test_the_vocabulary_has_added_tokens_at_their_ids(tmp_path: Path) -> None:
    """An id without a token has the empty string."""
    size = len(vocabulary())
    added = {str(size + 1): {"content": "<ent>"}}
    tokenizer = load(write(tmp_path, {"added_tokens_decoder": added}, vocab_txt=VOCABULARY_TXT))
    assert tokenizer.vocabulary == (*vocabulary(), "", "<ent>")


@pytest.mark.parametrize("mode", ["text", "mask", "special"])
def test_equal_tokenizers_have_equal_descriptions(tmp_path: Path, mode: str) -> None:
    """The form of the files does not matter, so that tasks of different checkpoints can share one tokenization."""
    folder = write(tmp_path / "vocabulary", {"do_lower_case": True}, vocab_txt=VOCABULARY_TXT)
    saved = write(tmp_path / "saved")
    AutoTokenizer.from_pretrained(folder).save_pretrained(saved)
    assert load(folder, mode).description == load(saved, mode).description
    cased = write(tmp_path / "cased", {"do_lower_case": False}, vocab_txt=VOCABULARY_TXT)
    other = write(tmp_path / "other", vocab_txt=VOCABULARY_TXT.replace("\npeace\n", "\npeaces\n"))
    assert len({load(each, mode).description for each in (folder, cased, other)}) == 3


def test_different_modes_have_different_descriptions(tmp_path: Path) -> None:
    folder = write(tmp_path, vocab_txt=VOCABULARY_TXT)
    assert len({load(folder, mode).description for mode in ("text", "mask", "special")}) == 3


# broken files


WHOLE = {"vocab_txt": VOCABULARY_TXT}


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        pytest.param({}, "neither tokenizer.json nor vocab.txt", id="no file"),
        pytest.param({"vocab_txt": b"[PAD]\n\xff\xfe"}, "vocab.txt: expected UTF-8", id="no UTF-8"),
        pytest.param({"vocab_txt": ""}, "does not contain [UNK], [SEP], [CLS]", id="empty vocabulary"),
        pytest.param({"vocab_txt": "[UNK]\n[CLS]\nword\n"}, "does not contain [SEP]", id="no [SEP]"),
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
    """On a GPU, an id without an embedding stops the process."""
    folder = write(tmp_path, vocab_txt=VOCABULARY_TXT)
    edit_config(folder, vocab_size=len(vocabulary()) - 1)
    with pytest.raises(CheckpointError, match="vocab"):
        load(folder)


@pytest.mark.parametrize("mode", ["text", "mask", "special"])
def test_a_special_token_set_to_null_does_not_exist(tmp_path: Path, mode: str) -> None:
    folder = write(tmp_path, {"mask_token": None}, vocab_txt=VOCABULARY_TXT)
    assert_equals_transformers(folder)
    assert load(folder, mode).mask_id is None


def test_mask_id_is_none_if_the_vocabulary_has_no_mask(tmp_path: Path) -> None:
    folder = write(tmp_path, vocab_txt=VOCABULARY_TXT.replace("[MASK]\n", "[mask]\n"))
    assert load(folder, "mask").mask_id is None
    assert load(folder, "mask")(["a [MASK]"]).input_ids.size

"""Tests that the word cache equals the library for any text, flags, Arrow array and memory limit."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distilray.model.tokenizer import tokenizer as module
from distilray.model.tokenizer import word_cache
from distilray.model.tokenizer.pretokenize import STAND_ALONE
from distilray.model.tokenizer.tokenizer import Tokenizer
from distilray.model.tokenizer.tokens import encode
from tests.model.tokenizer import tokenizer_differential
from tests.model.tokenizer.tokenizer_differential import FLAGS
from tests.model.tokenizer.tokenizing import TEXTS, VOCABULARY_TXT, Row, load, rows, write
from tests.model.tokenizer.unicode_texts import KINDS, LONG, hard_texts
from tests.support import SPECIAL

pieces = st.sampled_from([piece for kind in KINDS for piece in kind]) | st.sampled_from([" ", *LONG])
texts = st.lists(pieces | st.text(max_size=3), max_size=12).map("".join)
ARROW_TYPES = [pa.string(), pa.large_string()]


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> list[Tokenizer]:
    """One tokenizer for each combination of flags."""
    folder = tmp_path_factory.mktemp("tokenizers")
    settings = [{"tokenizer_class": "DistilBertTokenizer", **flags} for flags in FLAGS]
    return [load(write(folder / str(i), s, vocab_txt=VOCABULARY_TXT), "text") for i, s in enumerate(settings)]


@pytest.fixture(scope="module")
def uncased(tokenizers: list[Tokenizer]) -> Tokenizer:
    return tokenizers[0]


def library(tokenizer: Tokenizer, batch: list[str]) -> list[Row]:
    return rows(encode(tokenizer._tokenizer, batch))


def assert_equals_library(tokenizer: Tokenizer, batch: list[str]) -> None:
    for text, actual, expected in zip(batch, rows(tokenizer(batch)), library(tokenizer, batch), strict=True):
        assert actual == expected, repr(text)


@given(st.sampled_from(range(len(FLAGS))), st.lists(texts, min_size=1, max_size=4))
def test_any_text_with_any_flags_equals_the_library(tokenizers: list[Tokenizer], flags: int, batch: list[str]) -> None:
    assert_equals_library(tokenizers[flags], batch)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a.\u0301b \u0301c \u0301 ,\u0308\u0323d", id="marks-after-punctuation-and-space"),
        pytest.param("a\u200bb .\u200d. \ufeff, \u2060", id="zero-width"),
        pytest.param("a\x00b \x01.\x7f\x1b \x0bc\x0cd\x1ce\x85f", id="control"),
        pytest.param("a\ufffdb \ufffd. \ufffd", id="replacement"),
        pytest.param("a\u00a0b\u2028.\u3000c \u1680", id="unicode-white-space"),
        pytest.param(" ".join(LONG) + "." + "b" * 300, id="word-limit"),
        pytest.param("\u4e2d\u5317.a\u4e2db \uf900\u0301\U00020000 \U0002f800", id="cjk"),
        pytest.param("\u00abcaf\u00e9\u00bb \u2014the\u2014 \u201cof\u201d\u3002\u0964", id="unicode-punctuation"),
        pytest.param("\U0001f600the\U0001f468\u200d\U0001f469.\u2764\ufe0f 1\ufe0f\u20e3", id="emoji"),
        pytest.param("s\u0323\u0307 s\u0307\u0323 \u1e69 \u0344 \u0958 \u212b", id="nfd-order"),
        pytest.param("\u0130stanbul \ufb01 \u01c5 \u03a3\u03a3 \u1e9e \uac00\ud55c", id="lower-case"),
        pytest.param(" \t\r\n the  \n\n of\r\n", id="space-at-the-ends"),
        pytest.param("[SEP] [CLS][mask] ##s [ SEP ]", id="literal-special-tokens"),
        pytest.param("QUJD" * 500, id="one-giant-chunk"),
        pytest.param("!" * 300 + "$+<=>^`|~", id="punctuation-only"),
    ],
)
def test_difficult_texts_equal_the_library(tokenizers: list[Tokenizer], text: str) -> None:
    for tokenizer in tokenizers:
        assert_equals_library(tokenizer, [text, "", f"the{text}", f"{text}the", text])


def test_stand_alone_characters_are_separate_words(tokenizers: list[Tokenizer]) -> None:
    for chinese, table in STAND_ALONE.items():
        tokenizer = next(t for t, f in zip(tokenizers, FLAGS, strict=True) if f["tokenize_chinese_chars"] is chinese)
        characters = [chr(code) for code in np.flatnonzero(table)]
        assert "\u2014" in characters
        assert ("\u4e2d" in characters) is chinese
        words = encode(tokenizer._tokenizer, [f"a{character}a" for character in characters])
        assert words.word_ids.tolist() == [0, 1, 2] * len(characters)


@pytest.mark.slow
def test_two_hundred_thousand_texts_equal_the_library(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["differential", "--rows", "200000"])
    tokenizer_differential.main()
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (result["rows"], result["differences"]) == (200_000, 0)
    assert result["tokens"] > 1_000_000


# Arrow


@pytest.mark.parametrize("kind", ARROW_TYPES, ids=str)
def test_whole_sliced_and_chunked_arrow_arrays_equal_the_library(uncased: Tokenizer, kind: pa.DataType) -> None:
    expected = library(uncased, TEXTS)
    array = pa.array(TEXTS, kind)
    assert rows(uncased(array)) == expected
    assert rows(uncased(array.slice(3, 11))) == expected[3:14]
    chunked = pa.chunked_array([array.slice(0, 4), array.slice(4, 0), array.slice(4, 9), array.slice(20)])
    assert rows(uncased(chunked)) == expected[:13] + expected[20:]
    assert rows(uncased(chunked.slice(2, 6))) == expected[2:8]


@pytest.mark.parametrize("kind", ARROW_TYPES, ids=str)
def test_a_null_has_no_tokens_even_with_bytes_in_its_buffer(uncased: Tokenizer, kind: pa.DataType) -> None:
    whole = pa.array(["the", "hidden", "of", "to"], kind)
    valid = pa.py_buffer(bytes([0b1101]))
    array = pa.Array.from_buffers(kind, 4, [valid, *whole.buffers()[1:]])
    assert array.to_pylist() == ["the", None, "of", "to"]
    assert rows(uncased(array)) == library(uncased, ["the", "", "of", "to"])
    assert rows(uncased(array.slice(1, 2))) == library(uncased, ["", "of"])
    assert uncased(pa.nulls(2, kind)).offsets.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    "empty", [pa.array([], pa.string()), pa.chunked_array([], pa.large_string())], ids=["array", "chunked"]
)
def test_an_empty_array_has_no_tokens(uncased: Tokenizer, empty: pa.Array) -> None:
    tokens = uncased(empty)
    assert tokens.offsets.tolist() == [0]
    assert len(tokens.input_ids) == 0


def test_an_array_of_another_type_is_an_error(uncased: Tokenizer) -> None:
    with pytest.raises(TypeError, match="expected an Arrow array of string or large_string, got int64"):
        uncased(pa.array([1]))


def test_a_text_that_is_too_long_is_an_error(uncased: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_TEXT_BYTES", 5)
    with pytest.raises(ValueError, match="a text has 6 bytes: expected at most 5"):
        uncased(["abcdef"])


# the cache


@pytest.mark.parametrize("cache_bytes", [0, 300, 5000])
@pytest.mark.parametrize("slice_bytes", [1, 50, 4_000_000])
def test_memory_limits_do_not_change_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache_bytes: int, slice_bytes: int
) -> None:
    monkeypatch.setattr(module, "_SLICE_BYTES", slice_bytes)
    settings = {"tokenizer_class": "DistilBertTokenizer"}
    tokenizer = load(write(tmp_path, settings, vocab_txt=VOCABULARY_TXT), "text", cache_bytes=cache_bytes)
    for _ in range(2):
        assert_equals_library(tokenizer, [*TEXTS, *hard_texts(20, seed=3)])


def test_memory_stays_within_the_limit(tmp_path: Path) -> None:
    folder = write(tmp_path, {"tokenizer_class": "DistilBertTokenizer"}, vocab_txt=VOCABULARY_TXT)
    tokenizer = load(folder, "text", cache_bytes=2**20)
    batches = [pa.array([" ".join(f"w{i}x{j}" for j in range(500)), "y" * 50_000 + str(i)]) for i in range(20)]
    tokenizer(batches[0])
    tracemalloc.start()
    before, most = tracemalloc.get_traced_memory()[0], 0
    for batch in batches:
        tokenizer(batch)
        most = max(most, tracemalloc.get_traced_memory()[0] - before)
    tracemalloc.stop()
    assert 0.1 * 2**20 < most < 1.2 * 2**20


def test_the_library_gets_each_chunk_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []

    def spy(tokenizer: Any, chunks: list[str]) -> Any:
        given.extend(" ".join(chunks).split(" "))
        return encode(tokenizer, chunks)

    monkeypatch.setattr(word_cache, "encode", spy)
    tokenizer = load(write(tmp_path, {}, vocab_txt=VOCABULARY_TXT), "text")
    tokenizer(["the war, the peace\n", "peace of\tthe"])
    tokenizer(["of war,", "new"])
    assert sorted(given) == sorted([",", "new", "of", "peace", "the", "war"])
    given.clear()
    for text in ("y" * 128, "z" * 129) * 2:
        tokenizer([text])
    assert [len(chunk) for chunk in given] == [128, 129, 129]  # long chunks rarely recur and are not cached


# texts that need the library

ADDED = {"id": 0, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
HOLDING = ["a <x> b", "a<x>b", " <x>  <x>.", "the <X> of", "th<x", "\u4e2d<x>\u0301 x>", "<x>", "A [MASK]. [mask]"]


def with_added(folder: Path, pre_tokenizer: str = "BertPreTokenizer", **added: Any) -> Tokenizer:
    """Make a tokenizer from a tokenizer.json that is used unchanged."""
    vocab = {token: i for i, token in enumerate(VOCABULARY_TXT.splitlines())}
    model = {
        "type": "WordPiece",
        "unk_token": "[UNK]",
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
    }
    normalizer = {"clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True}
    description = {
        "version": "1.0",
        "added_tokens": [ADDED | {"id": len(vocab), "content": "<x>"} | added] if added else [],
        "normalizer": {"type": "BertNormalizer", **normalizer},
        "pre_tokenizer": {"type": pre_tokenizer},
        "model": {**model, "vocab": vocab},
    }
    settings = {"tokenizer_class": "PreTrainedTokenizerFast"}
    return load(write(folder, settings, tokenizer_json=json.dumps(description)), "mask")


@pytest.mark.parametrize("flag", ["single_word", "lstrip", "rstrip", "special"])
def test_texts_with_an_added_token_equal_the_library(tmp_path: Path, flag: str) -> None:
    tokenizer = with_added(tmp_path, **{flag: True})
    assert tokenizer.library_only is None
    assert_equals_library(tokenizer, [*TEXTS, *HOLDING, *TEXTS])
    assert rows(tokenizer(pa.array([None, *HOLDING], pa.large_string()))) == library(tokenizer, ["", *HOLDING])
    assert_equals_library(tokenizer, HOLDING)


def test_a_normalized_added_token_sends_all_texts_to_the_library(tmp_path: Path) -> None:
    tokenizer = with_added(tmp_path, content="caf\u00c9 the", normalized=True)
    assert "added token" in str(tokenizer.library_only)
    batch = ["a cafe the b", "CAFE\u0301 THE", "caf\x00e\tthe"]
    assert_equals_library(tokenizer, [*batch, *TEXTS])
    added = len(VOCABULARY_TXT.splitlines())
    assert [added in ids for ids, _, _ in rows(tokenizer(batch))] == [True, True, True]


def test_another_pre_tokenizer_sends_all_texts_to_the_library(tmp_path: Path) -> None:
    tokenizer = with_added(tmp_path, pre_tokenizer="WhitespaceSplit")
    assert "WhitespaceSplit" in str(tokenizer.library_only)
    assert_equals_library(tokenizer, TEXTS)


@pytest.mark.parametrize("mode", ["text", "mask", "special"])
def test_texts_with_special_tokens_equal_the_library(tmp_path: Path, mode: Any) -> None:
    tokenizer = load(write(tmp_path, {}, vocab_txt=VOCABULARY_TXT), mode)
    batch = [f"{a}{name}{b} the" for name in SPECIAL for a in ("", "x", " ") for b in ("", ".", "\u0301")]
    mixed = [text for pair in zip(batch, [*TEXTS, *TEXTS], strict=False) for text in pair]
    assert_equals_library(tokenizer, mixed)
    assert np.isin(4, tokenizer(batch).input_ids) == (mode != "text")

"""Tests that tokens equal Transformers' fast tokenizer, and that special tokens in a text are text by default."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from distilray.model.tokenizer import tokenizer as module
from distilray.model.tokenizer.tokenizer import Tokenizer
from tests.model.tokenizer.tokenizing import TEXTS, VOCABULARY_TXT, hf_rows, load, rows, write
from tests.support import PIECES, SPECIAL, WORDS, vocabulary

SPECIAL_IDS = range(len(SPECIAL))
MASK_ID = SPECIAL.index("[MASK]")

# words of the vocabulary, difficult characters, and any other Unicode
snippets = st.sampled_from([*WORDS, *PIECES, *SPECIAL, *"\u0301\u0130\ufb01\u5317 \t\n\r\u00a0\u200b\ufeff\x00[]#.A"])
texts = st.lists(snippets | st.text(max_size=8), max_size=12).map("".join) | st.text(max_size=40)


@dataclass(frozen=True)
class Both:
    """The tokenizer in each of its modes, and Transformers' tokenizer."""

    special: Tokenizer
    mask: Tokenizer
    text: Tokenizer
    hf: PreTrainedTokenizerBase


@pytest.fixture(scope="module", params=[True, False], ids=["uncased", "cased"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    settings = {"tokenizer_class": "DistilBertTokenizer", "do_lower_case": request.param}
    folder = write(tmp_path_factory.mktemp("tokenizer"), settings, vocab_txt=VOCABULARY_TXT)
    return Both(*(load(folder, mode) for mode in ("special", "mask", "text")), AutoTokenizer.from_pretrained(folder))


@given(st.lists(texts, min_size=1, max_size=4))
def test_any_text_equals_transformers(both: Both, batch: list[str]) -> None:
    assert rows(both.special(batch)) == hf_rows(both.hf, batch)


@given(texts)
def test_a_literal_special_token_is_text(both: Both, text: str) -> None:
    assert set(both.text([text]).input_ids.tolist()) & set(SPECIAL_IDS) <= {both.text.unk_id}


@given(texts)
def test_the_mask_is_the_only_special_token_of_its_mode(both: Both, text: str) -> None:
    ids = both.mask([text]).input_ids.tolist()
    assert set(ids) & set(SPECIAL_IDS) <= {both.mask.unk_id, MASK_ID}
    assert ids.count(MASK_ID) == text.count("[MASK]")


@given(texts)
@example("a[MASK]b [mask][MASK]")
def test_texts_with_only_the_mask_token_equal_transformers(both: Both, text: str) -> None:
    assume(not any(name in text for name in SPECIAL if name != "[MASK]"))
    assert rows(both.mask([text])) == hf_rows(both.hf, [text])


@given(texts)
@example("[ SEP ]")
def test_all_modes_agree_on_texts_without_special_tokens(both: Both, text: str) -> None:
    assume(not any(name in text for name in SPECIAL))
    assert rows(both.text([text])) == rows(both.mask([text])) == rows(both.special([text]))


def test_only_the_special_mode_returns_special_ids(both: Both) -> None:
    text = " ".join(SPECIAL)
    assert both.special([text]).input_ids.tolist() == list(SPECIAL_IDS)
    ((tokens, offsets, _),) = rows(both.text([text]))
    assert not set(tokens) - {both.text.unk_id} & set(SPECIAL_IDS)
    assert "".join(text[start:end] for start, end in offsets) == text.replace(" ", "")


def test_every_mode_has_the_same_vocabulary_and_special_ids(both: Both) -> None:
    """Special tokens keep their names and ids in modes that do not match them in texts."""
    for tokenizer in (both.special, both.mask, both.text):
        assert list(tokenizer.vocabulary) == vocabulary() == both.hf.convert_ids_to_tokens(range(len(vocabulary())))
        assert (*tokenizer.specials, tokenizer.unk_id, tokenizer.mask_id) == (2, 3, 1, 4)
        assert tokenizer.token_chars.tolist() == [len(token) for token in vocabulary()]


@given(texts)
def test_offsets_lie_in_the_text_and_words_are_numbered_from_zero(both: Both, text: str) -> None:
    ((_, offsets, words),) = rows(both.text([text]))
    assert all(0 <= start <= end <= len(text) for start, end in offsets)
    assert sorted(offsets) == offsets
    assert sorted(words) == words
    assert list(dict.fromkeys(words)) == list(range(len(set(words))))


# many texts


@pytest.mark.parametrize("slice_bytes", [1, 7, 100, 10**6])
def test_a_batch_of_texts_equals_each_text_alone(both: Both, monkeypatch: pytest.MonkeyPatch, slice_bytes: int) -> None:
    alone = [row for text in TEXTS for row in rows(both.text([text]))]
    monkeypatch.setattr(module, "_SLICE_BYTES", slice_bytes)
    assert rows(both.text(TEXTS)) == alone


@pytest.mark.parametrize("batch", [[], [""], ["", "", ""]], ids=str)
def test_empty_texts_have_no_tokens(both: Both, batch: list[str]) -> None:
    tokens = both.text(batch)
    assert tokens.offsets.tolist() == [0] * (len(batch) + 1)
    assert not any(len(column) for column in (tokens.input_ids, tokens.word_ids, tokens.start, tokens.end))


def test_columns_have_the_documented_types(both: Both) -> None:
    tokens = both.text(["a b"])
    assert tokens.offsets.dtype == np.int64
    assert {c.dtype for c in (tokens.input_ids, tokens.word_ids, tokens.start, tokens.end)} == {np.dtype(np.int32)}

"""Fill-mask: compat hf equals the Transformers pipeline, and each mask of a document is computed in one window."""

import json
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from distilray.model.checkpoint.checkpoint import Checkpoint
from distilray.model.inference.windows import split_into_windows
from distilray.model.tokenizer.tokenizer import Tokenizer
from distilray.operators.rows import schema as s
from distilray.operators.tasks import FillMask, fill_mask
from tests.operators.harness import answers, assert_rejected, reasons
from tests.operators.reference import SCORE_GATE, corpus_vocabulary, hf_answers, mixed_texts, passage
from tests.support import make_checkpoint, vocabulary


def masked(texts: list[str], most: int = 3) -> list[str]:
    """Replace 1 to `most` of the words of each text by masks."""
    draw, out = random.Random(7), []
    for text in texts:
        words = text.split(" ")
        for position in draw.sample(range(len(words)), min(draw.randint(1, most), len(words))):
            words[position] = draw.choice(["[MASK]", "[MASK]", "([MASK])", "un[MASK]"])
        out.append(" ".join(words))
    return out


TEXTS = masked(mixed_texts(40))
TARGETS = ["war", "peace", "##s", "[SEP]", "antidisestablishmentarianism", "Treasury", "un war"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    vocab = list(corpus_vocabulary())
    return make_checkpoint(tmp_path_factory.mktemp("mlm"), head="masked-lm", layers=1, vocab=vocab)


@pytest.fixture(scope="module")
def cased(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cased model whose projector does not share the word embeddings."""
    return make_checkpoint(
        tmp_path_factory.mktemp("mlm"), head="masked-lm", tie_word_embeddings=False, lower=False, std=0.2
    )


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with 48 positions."""
    vocab = list(corpus_vocabulary())
    return make_checkpoint(tmp_path_factory.mktemp("mlm"), head="masked-lm", layers=1, vocab=vocab, positions=48)


def fill(folder: Path, texts: list[str], **options: Any) -> pa.Table:
    return answers(FillMask(model=str(folder), **options), texts)


def filled(folder: Path, texts: list[str], **options: Any) -> list[list[dict[str, Any]]]:
    return fill(folder, texts, **options)["masks"].to_pylist()


def assert_equals_pipeline(actual: list[list[dict[str, Any]]], expected: list[Any], texts: list[str]) -> None:
    """Compare with the pipeline, which returns a list of candidates for one mask and a list of lists for several."""
    for text, candidates, answer in zip(texts, actual, expected, strict=True):
        groups = answer if isinstance(answer[0], list) else [answer]
        expected_candidates = [
            {**candidate, "mask": number} for number, group in enumerate(groups) for candidate in group
        ]
        assert [e["mask"] for e in candidates] == [e["mask"] for e in expected_candidates], text
        assert [e["token_id"] for e in candidates] == [e["token"] for e in expected_candidates], text
        assert [e["token"] for e in candidates] == [e["token_str"] for e in expected_candidates]
        assert [e["score"] for e in candidates] == pytest.approx(
            [e["score"] for e in expected_candidates], abs=SCORE_GATE
        )
        assert {text[e["start"] : e["end"]] for e in candidates} == {"[MASK]"}


# against the pipeline


@pytest.mark.parametrize("top_k", [5, 1, 20])
def test_equals_the_pipeline(folder: Path, top_k: int) -> None:
    texts = TEXTS if top_k == 5 else TEXTS[::4]
    expected = hf_answers("fill-mask", folder, texts, top_k=top_k)
    assert len({isinstance(answer[0], list) for answer in expected}) == 2  # texts of one mask and of several
    assert_equals_pipeline(filled(folder, texts, top_k=top_k, compat="hf"), expected, texts)


def test_a_cased_model_with_its_own_projector_equals_the_pipeline(cased: Path) -> None:
    assert_equals_pipeline(filled(cased, TEXTS, compat="hf"), hf_answers("fill-mask", cased, TEXTS), TEXTS)


@pytest.mark.parametrize("top_k", [2, 5, 100])
def test_targets_equal_those_of_the_pipeline(folder: Path, top_k: int) -> None:
    """The first piece replaces a target that is not a token. Two targets may have the same first piece."""
    texts = TEXTS if top_k == 5 else TEXTS[::4]
    expected = hf_answers("fill-mask", folder, texts, top_k=top_k, targets=TARGETS)
    assert_equals_pipeline(filled(folder, texts, top_k=top_k, targets=TARGETS, compat="hf"), expected, texts)


def test_the_default_rules_equal_the_pipeline_for_short_texts_without_other_special_tokens(folder: Path) -> None:
    texts = [text for text in TEXTS if "[" not in text.replace("[MASK]", "")]
    assert len(texts) > 180
    assert_equals_pipeline(filled(folder, texts), hf_answers("fill-mask", folder, texts), texts)
    targets = ["war", "peace", "##s"]
    assert_equals_pipeline(
        filled(folder, texts[::4], targets=targets),
        hf_answers("fill-mask", folder, texts[::4], targets=targets),
        texts[::4],
    )


def test_outputs_outside_the_vocabulary_have_empty_tokens_as_in_the_pipeline(tmp_path: Path) -> None:
    """A model may have more outputs than its tokenizer has tokens, for example up to a round number."""
    padded = make_checkpoint(tmp_path, head="masked-lm", layers=1)
    named = vocabulary()[:-40]
    (padded / "vocab.txt").write_text("\n".join(named) + "\n", encoding="utf-8")
    texts = TEXTS[::8]
    actual = filled(padded, texts, top_k=40, compat="hf")
    assert {e["token"] for answer in actual for e in answer if e["token_id"] >= len(named)} == {""}
    assert_equals_pipeline(actual, hf_answers("fill-mask", padded, texts, top_k=40), texts)


# our own rules


def windows_of_masks(folder: Path, text: str) -> list[tuple[str, int]]:
    """Return the text of the window of each mask, and the index of the mask among the masks of that window.

    The window is the one in which the smaller of the contexts before and after the mask is largest.
    """
    tokenizer = Tokenizer(Checkpoint(str(folder)), "mask")
    tokens = tokenizer([text])
    windows = split_into_windows(tokens.offsets, tokens.word_ids, 46, 11)
    mask_windows = []
    for position in np.flatnonzero(tokens.input_ids == tokenizer.mask_id):
        left = np.where(windows.start == 0, 1000, position - windows.start)
        right = np.where(windows.end == len(tokens.input_ids), 1000, windows.end - 1 - position)
        best = np.minimum(left, right).argmax()
        assert min(left[best], right[best]) >= 3  # windows share 11 tokens, but begin and end at whole words
        first, last = windows.start[best], windows.end[best]
        nth = int((tokens.input_ids[first:position] == tokenizer.mask_id).sum())
        mask_windows.append((text[tokens.start[first] : tokens.end[last - 1]], nth))
    return mask_windows


def test_a_mask_of_a_document_has_the_candidates_of_its_window(short: Path) -> None:
    """No other windows are computed."""
    draw = random.Random(3)
    words = [word for word in corpus_vocabulary() if word.isalpha() and len(word) > 3]
    texts = masked([" ".join(draw.choices(words, k=size)) for size in (30, 44, 46, 50, 90, 200, 400, 1000)], most=6)
    table = fill(short, texts)
    together = [mask for answer in table["masks"].to_pylist() for mask in per_mask(answer)]
    alone = [(text, nth) for document in texts for text, nth in windows_of_masks(short, document)]
    assert len(together) > 20
    for candidates, (_, nth), answer in zip(together, alone, filled(short, [text for text, _ in alone]), strict=True):
        expected_candidates = per_mask(answer)[nth]
        assert [candidate["token_id"] for candidate in candidates] == [
            candidate["token_id"] for candidate in expected_candidates
        ]
        assert [candidate["score"] for candidate in candidates] == pytest.approx(
            [candidate["score"] for candidate in expected_candidates], abs=SCORE_GATE
        )
    assert table[s.COMPUTED_TOKENS][0].as_py() <= len({text for text, _ in alone}) * 48


def per_mask(answer: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Group the candidates of a text by mask."""
    return [
        [candidate for candidate in answer if candidate["mask"] == number] for number in range(answer[-1]["mask"] + 1)
    ]


def test_every_mask_of_a_document_has_its_own_offsets(short: Path) -> None:
    texts = masked([passage(i, 50 * i + 1) for i in range(9)], most=5)
    for text, answer in zip(texts, filled(short, texts, top_k=1), strict=True):
        assert [candidate["start"] for candidate in answer] == [
            match.start() for match in re.finditer(r"\[MASK\]", text)
        ]
        assert {text[candidate["start"] : candidate["end"]] for candidate in answer} == {"[MASK]"}


def test_only_the_mask_is_special_in_a_text(folder: Path) -> None:
    """distilray reads a literal separator as text. Transformers reads it as the end of the text."""
    text = "[SEP] peace [MASK] [UNK] [CLS]"
    actual, expected = filled(folder, [text])[0], filled(folder, [text], compat="hf")[0]
    assert {text[candidate["start"] : candidate["end"]] for candidate in [*actual, *expected]} == {"[MASK]"}
    assert actual[0]["score"] != pytest.approx(expected[0]["score"], abs=1e-3)


# dead letters


def test_only_a_text_without_a_mask_is_a_dead_letter(short: Path) -> None:
    """With compat hf, a text longer than the model is also a dead letter."""
    texts = ["", "peace [MASK]", "[mask] war", "war " * 60 + "[MASK]", "[MASK]", "war " * 60]
    no_mask = "no_mask"
    table = fill(short, texts)
    assert reasons(table) == [no_mask, None, no_mask, None, None, no_mask]
    assert table["_message"][0].as_py() == "the text has no mask token"
    alive = [1, 3, 4]
    expected_masks = filled(short, [texts[i] for i in alive])
    for candidates, expected in zip(table["masks"].take(alive).to_pylist(), expected_masks, strict=True):
        assert [e["token_id"] for e in candidates] == [e["token_id"] for e in expected]
    table = fill(short, texts, compat="hf")
    assert reasons(table) == [no_mask, None, no_mask, "text_too_long", None, no_mask]


def test_no_rows_and_no_masks_give_no_answers(short: Path) -> None:
    assert filled(short, []) == []
    assert reasons(fill(short, ["peace", ""])) == ["no_mask", "no_mask"]


def test_targets_are_copied_to_the_device_once(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[list[int]] = []
    original = torch.from_numpy
    monkeypatch.setattr(torch, "from_numpy", lambda array: sent.append(array.tolist()) or original(array))
    monkeypatch.setattr(fill_mask, "_MASKS_AT_ONCE", 2)
    answer = filled(short, TEXTS[:9], targets=["war", "peace"])
    ids = sorted({candidate["token_id"] for row in answer for candidate in row})
    assert sum(len(row) for row in answer) > 8  # two candidates a mask: more than one reduction
    assert sent.count(ids) == 1


# options that do not fit


def test_a_target_outside_the_vocabulary_is_an_error(folder: Path) -> None:
    assert_rejected(
        FillMask(model=str(folder), targets=["war", "xqzzz"]),
        "targets: expected tokens of the model, not in the vocabulary: xqzzz",
    )
    assert_rejected(FillMask(model=str(folder), targets=["Treasury"]), "not in the vocabulary: Treasury")
    assert_rejected(FillMask(model=str(folder), targets=[" "], compat="hf"), "not in the vocabulary")
    assert_rejected(FillMask(model=str(folder), targets=[""], compat="hf"), "not in the vocabulary")
    for options in ({"targets": []}, {"top_k": 0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            FillMask(model="m", **options)


def test_a_tokenizer_without_a_mask_is_an_error(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, head="masked-lm", layers=1, dim=16)
    settings = {"tokenizer_class": "DistilBertTokenizer", "mask_token": None}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    assert_rejected(FillMask(model=str(folder)), "the tokenizer has no mask token")

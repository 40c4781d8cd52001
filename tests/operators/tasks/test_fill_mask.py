"""Fill-mask: compat hf equals the Transformers pipeline, and masks far inside documents are read in a window of their own."""

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
from distilray.model.inference.windows import split
from distilray.model.tokenizer.tokenizer import Tokenizer
from distilray.operators.rows import schema as s
from distilray.operators.tasks import FillMask, fill_mask
from tests.operators.harness import answers, reasons, refused
from tests.operators.material import SCORE_GATE, corpus_vocabulary, hf_answers, mixed_texts, passage
from tests.support import make_checkpoint, vocabulary


def masked(texts: list[str], most: int = 3) -> list[str]:
    """1 to `most` of the words of each text replaced by masks."""
    draw, out = random.Random(7), []
    for text in texts:
        words = text.split(" ")
        for at in draw.sample(range(len(words)), min(draw.randint(1, most), len(words))):
            words[at] = draw.choice(["[MASK]", "[MASK]", "([MASK])", "un[MASK]"])
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
    """With a projector of its own."""
    return make_checkpoint(
        tmp_path_factory.mktemp("mlm"), head="masked-lm", tie_word_embeddings=False, lower=False, std=0.2
    )


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 48 tokens."""
    vocab = list(corpus_vocabulary())
    return make_checkpoint(tmp_path_factory.mktemp("mlm"), head="masked-lm", layers=1, vocab=vocab, positions=48)


def fill(folder: Path, texts: list[str], **options: Any) -> pa.Table:
    return answers(FillMask(model=str(folder), **options), texts)


def filled(folder: Path, texts: list[str], **options: Any) -> list[list[dict[str, Any]]]:
    return fill(folder, texts, **options)["masks"].to_pylist()


def assert_as_the_pipeline(ours: list[list[dict[str, Any]]], theirs: list[Any], texts: list[str]) -> None:
    """The pipeline gives a list of candidates for one mask, and a list of such lists for several."""
    for text, mine, answer in zip(texts, ours, theirs, strict=True):
        groups = answer if isinstance(answer[0], list) else [answer]
        wanted = [{**each, "mask": number} for number, group in enumerate(groups) for each in group]
        assert [e["mask"] for e in mine] == [e["mask"] for e in wanted], text
        assert [e["token_id"] for e in mine] == [e["token"] for e in wanted], text
        assert [e["token"] for e in mine] == [e["token_str"] for e in wanted]
        assert [e["score"] for e in mine] == pytest.approx([e["score"] for e in wanted], abs=SCORE_GATE)
        assert {text[e["start"] : e["end"]] for e in mine} == {"[MASK]"}


# against the pipeline


@pytest.mark.parametrize("top_k", [5, 1, 20])
def test_equals_the_pipeline(folder: Path, top_k: int) -> None:
    texts = TEXTS if top_k == 5 else TEXTS[::4]
    theirs = hf_answers("fill-mask", folder, texts, top_k=top_k)
    assert len({isinstance(answer[0], list) for answer in theirs}) == 2  # texts of one mask and of several
    assert_as_the_pipeline(filled(folder, texts, top_k=top_k, compat="hf"), theirs, texts)


def test_a_cased_model_with_its_own_projector_equals_the_pipeline(cased: Path) -> None:
    assert_as_the_pipeline(filled(cased, TEXTS, compat="hf"), hf_answers("fill-mask", cased, TEXTS), TEXTS)


@pytest.mark.parametrize("top_k", [2, 5, 100])
def test_targets_equal_the_pipelines(folder: Path, top_k: int) -> None:
    """A target that is no token stands for its first piece; two may stand for the same."""
    texts = TEXTS if top_k == 5 else TEXTS[::4]
    theirs = hf_answers("fill-mask", folder, texts, top_k=top_k, targets=TARGETS)
    assert_as_the_pipeline(filled(folder, texts, top_k=top_k, targets=TARGETS, compat="hf"), theirs, texts)


def test_ours_equals_the_pipeline_where_texts_fit_and_hold_masks_only(folder: Path) -> None:
    texts = [text for text in TEXTS if "[" not in text.replace("[MASK]", "")]
    assert len(texts) > 180
    assert_as_the_pipeline(filled(folder, texts), hf_answers("fill-mask", folder, texts), texts)
    targets = ["war", "peace", "##s"]
    assert_as_the_pipeline(
        filled(folder, texts[::4], targets=targets),
        hf_answers("fill-mask", folder, texts[::4], targets=targets),
        texts[::4],
    )


def test_tokens_that_the_vocabulary_does_not_name_are_empty_as_the_pipelines(tmp_path: Path) -> None:
    """A model may have more outputs than its tokenizer has tokens, to fill a round number."""
    padded = make_checkpoint(tmp_path, head="masked-lm", layers=1)
    named = vocabulary()[:-40]
    (padded / "vocab.txt").write_text("\n".join(named) + "\n", encoding="utf-8")
    texts = TEXTS[::8]
    ours = filled(padded, texts, top_k=40, compat="hf")
    assert {e["token"] for answer in ours for e in answer if e["token_id"] >= len(named)} == {""}
    assert_as_the_pipeline(ours, hf_answers("fill-mask", padded, texts, top_k=40), texts)


# our own rules


def windows_of_masks(folder: Path, text: str) -> list[tuple[str, int]]:
    """For each mask the text of the window that sees most on the side where it sees less, and which mask of it this is."""
    tokenizer = Tokenizer(Checkpoint(str(folder)), "mask")
    tokens = tokenizer([text])
    windows = split(tokens.offsets, tokens.word_ids, 46, 11)
    found = []
    for at in np.flatnonzero(tokens.input_ids == tokenizer.mask_id):
        left = np.where(windows.start == 0, 1000, at - windows.start)
        right = np.where(windows.end == len(tokens.input_ids), 1000, windows.end - 1 - at)
        best = np.minimum(left, right).argmax()
        assert min(left[best], right[best]) >= 3  # of 11 that are shared, some lie between whole words
        first, last = windows.start[best], windows.end[best]
        nth = int((tokens.input_ids[first:at] == tokenizer.mask_id).sum())
        found.append((text[tokens.start[first] : tokens.end[last - 1]], nth))
    return found


def test_masks_far_inside_documents_are_read_as_in_their_window_alone(short: Path) -> None:
    """That window, and no other, is computed."""
    draw = random.Random(3)
    words = [word for word in corpus_vocabulary() if word.isalpha() and len(word) > 3]
    texts = masked([" ".join(draw.choices(words, k=size)) for size in (30, 44, 46, 50, 90, 200, 400, 1000)], most=6)
    table = fill(short, texts)
    together = [mask for answer in table["masks"].to_pylist() for mask in per_mask(answer)]
    alone = [(text, nth) for document in texts for text, nth in windows_of_masks(short, document)]
    assert len(together) > 20
    for mine, (_, nth), answer in zip(together, alone, filled(short, [text for text, _ in alone]), strict=True):
        wanted = per_mask(answer)[nth]
        assert [each["token_id"] for each in mine] == [each["token_id"] for each in wanted]
        assert [each["score"] for each in mine] == pytest.approx([each["score"] for each in wanted], abs=SCORE_GATE)
    assert table[s.COMPUTED_TOKENS][0].as_py() <= len({text for text, _ in alone}) * 48


def per_mask(answer: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The candidates of each mask of a text."""
    return [[each for each in answer if each["mask"] == number] for number in range(answer[-1]["mask"] + 1)]


def test_every_mask_of_a_document_is_filled_where_it_stands(short: Path) -> None:
    texts = masked([passage(i, 50 * i + 1) for i in range(9)], most=5)
    for text, answer in zip(texts, filled(short, texts, top_k=1), strict=True):
        assert [each["start"] for each in answer] == [found.start() for found in re.finditer(r"\[MASK\]", text)]
        assert {text[each["start"] : each["end"]] for each in answer} == {"[MASK]"}


def test_only_the_mask_is_special_in_a_text(folder: Path) -> None:
    """A literal separator is text to us, and the end of the text to Transformers."""
    text = "[SEP] peace [MASK] [UNK] [CLS]"
    ours, theirs = filled(folder, [text])[0], filled(folder, [text], compat="hf")[0]
    assert {text[each["start"] : each["end"]] for each in [*ours, *theirs]} == {"[MASK]"}
    assert ours[0]["score"] != pytest.approx(theirs[0]["score"], abs=1e-3)


# dead letters


def test_a_text_without_a_mask_is_a_dead_letter_and_the_others_are_answered(short: Path) -> None:
    """A text longer than the model is one by Transformers' rules only."""
    texts = ["", "peace [MASK]", "[mask] war", "war " * 60 + "[MASK]", "[MASK]", "war " * 60]
    none = "no_mask"
    table = fill(short, texts)
    assert reasons(table) == [none, None, none, None, None, none]
    assert table["_message"][0].as_py() == "the text has no mask token"
    alive = [1, 3, 4]
    some = filled(short, [texts[i] for i in alive])
    for mine, theirs in zip(table["masks"].take(alive).to_pylist(), some, strict=True):
        assert [e["token_id"] for e in mine] == [e["token_id"] for e in theirs]
    table = fill(short, texts, compat="hf")
    assert reasons(table) == [none, None, none, "text_too_long", None, none]


def test_no_rows_and_no_masks_have_no_answers(short: Path) -> None:
    assert filled(short, []) == []
    assert reasons(fill(short, ["peace", ""])) == ["no_mask", "no_mask"]


def test_targets_go_to_the_device_once(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[list[int]] = []
    real = torch.from_numpy
    monkeypatch.setattr(torch, "from_numpy", lambda array: sent.append(array.tolist()) or real(array))
    monkeypatch.setattr(fill_mask, "_MASKS_AT_ONCE", 2)
    answer = filled(short, TEXTS[:9], targets=["war", "peace"])
    ids = sorted({each["token_id"] for row in answer for each in row})
    assert sum(len(row) for row in answer) > 8  # two candidates a mask: more than one reduction
    assert sent.count(ids) == 1


# options that do not fit


def test_targets_that_are_no_token_are_refused(folder: Path) -> None:
    refused(FillMask(model=str(folder), targets=["war", "xqzzz"]), "targets: not in the vocabulary: xqzzz")
    refused(FillMask(model=str(folder), targets=["Treasury"]), "not in the vocabulary: Treasury")
    refused(FillMask(model=str(folder), targets=[" "], compat="hf"), "not in the vocabulary")
    refused(FillMask(model=str(folder), targets=[""], compat="hf"), "not in the vocabulary")
    for options in ({"targets": []}, {"top_k": 0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            FillMask(model="m", **options)


def test_a_tokenizer_without_a_mask_is_refused(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, head="masked-lm", layers=1, dim=16)
    settings = {"tokenizer_class": "DistilBertTokenizer", "mask_token": None}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    refused(FillMask(model=str(folder)), "the tokenizer has no mask token")

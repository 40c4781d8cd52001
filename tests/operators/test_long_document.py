"""A document of any length is read to its end, and windows leave no trace."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from distilray.model.checkpoint.checkpoint import Checkpoint
from distilray.model.tokenizer.tokenizer import Tokenizer
from distilray.operators.rows import schema as s
from distilray.operators.tasks import TokenClassification
from tests.operators.harness import answers
from tests.support import make_checkpoint, random_texts


def answer(folder: Path, texts: list[str], **options: object) -> pa.Table:
    return answers(TokenClassification(model=str(folder), **{"aggregation": "none"} | options), texts)


def every_token_is_an_entity(path: Path, **options: int) -> Path:
    """A checkpoint without O: with aggregation none, each token decoded is an entity."""
    return make_checkpoint(path / "model", ("B-PER", "I-PER", "B-LOC"), **options)


@pytest.mark.parametrize("words", [2_000, pytest.param(200_000, marks=pytest.mark.slow)])
def test_every_token_is_decoded_once_to_the_last_sentence(tmp_path: Path, words: int) -> None:
    folder = every_token_is_an_entity(tmp_path, layers=1, dim=16, heads=2, hidden_dim=16)
    draw = np.random.default_rng(0)
    vocabulary = np.array(["lincoln", "paris", "of", "washingtons", "qzx", "u.s.", "\u5317\u4eac"])
    text = " ".join(vocabulary[draw.integers(0, len(vocabulary), words)]) + " The end: Springfield."
    tokens = Tokenizer(Checkpoint(str(folder)))([text])
    found = answer(folder, [text])["entities"][0].as_py()
    assert [(e["start"], e["end"]) for e in found] == list(zip(tokens.start, tokens.end, strict=True))
    assert found[-1]["end"] == len(text)
    assert all(e["text"] == text[e["start"] : e["end"]] for e in found[:: len(found) // 500 or 1])


@pytest.mark.parametrize("aggregation", ["none", "simple", "first", "average", "max"])
def test_a_text_that_fits_one_window_is_the_same_with_and_without_windows(tmp_path: Path, aggregation: str) -> None:
    wide = make_checkpoint(tmp_path / "wide", positions=512)
    texts = random_texts(60, seed=5, words=(1, 60))
    with_windows = answer(wide, texts, aggregation=aggregation)
    without = answer(wide, texts, aggregation=aggregation, overlap=0)
    assert with_windows["entities"].to_pylist() == without["entities"].to_pylist()
    counts = with_windows[s.TOKENS].to_pylist()
    assert with_windows[s.WINDOW_TOKENS][0].as_py() == sum(n + 2 if n else 0 for n in counts)


def test_an_entity_cut_by_a_window_is_whole(tmp_path: Path) -> None:
    """The defect of Transformers' merge: an entity in two windows is halved. Here a run of one label stays one span."""
    folder = make_checkpoint(tmp_path / "model", ("I-PER",), positions=40)
    text = " ".join(["lincoln"] * 300)
    assert [(e["start"], e["end"]) for e in answer(folder, [text], aggregation="first")["entities"][0].as_py()] == [
        (0, len(text))
    ]


@pytest.mark.slow
def test_a_text_of_10_megabytes_is_answered_to_its_end(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "model", ("I-PER", "B-PER"), layers=1, dim=16, heads=2, hidden_dim=16)
    text = "lincoln met mary in washington " * (10_000_000 // 31) + "Springfield."
    found = answer(folder, [text, "paris"], aggregation="simple")["entities"]
    assert found[0][-1].as_py()["end"] == len(text)
    assert len(found[1]) == 1

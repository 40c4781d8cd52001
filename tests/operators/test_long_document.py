"""Documents of any length are answered to their end, and windows do not change answers."""

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


def make_checkpoint_without_o(path: Path, **options: int) -> Path:
    """Make a checkpoint without the label O. With aggregation none, each decoded token is then an entity."""
    return make_checkpoint(path / "model", ("B-PER", "I-PER", "B-LOC"), **options)


@pytest.mark.parametrize("words", [2_000, pytest.param(200_000, marks=pytest.mark.slow)])
def test_every_token_of_a_long_text_is_decoded_once(tmp_path: Path, words: int) -> None:
    folder = make_checkpoint_without_o(tmp_path, layers=1, dim=16, heads=2, hidden_dim=16)
    draw = np.random.default_rng(0)
    vocabulary = np.array(["lincoln", "paris", "of", "washingtons", "qzx", "u.s.", "\u5317\u4eac"])
    text = " ".join(vocabulary[draw.integers(0, len(vocabulary), words)]) + " The end: Springfield."
    tokens = Tokenizer(Checkpoint(str(folder)))([text])
    entities = answer(folder, [text])["entities"][0].as_py()
    assert [(e["start"], e["end"]) for e in entities] == list(zip(tokens.start, tokens.end, strict=True))
    assert entities[-1]["end"] == len(text)
    assert all(e["text"] == text[e["start"] : e["end"]] for e in entities[:: len(entities) // 500 or 1])


@pytest.mark.parametrize("aggregation", ["none", "simple", "first", "average", "max"])
def test_windows_do_not_change_the_answer_to_a_short_text(tmp_path: Path, aggregation: str) -> None:
    wide = make_checkpoint(tmp_path / "wide", positions=512)
    texts = random_texts(60, seed=5, words=(1, 60))
    with_windows = answer(wide, texts, aggregation=aggregation)
    without = answer(wide, texts, aggregation=aggregation, overlap=0)
    assert with_windows["entities"].to_pylist() == without["entities"].to_pylist()
    counts = with_windows[s.TOKENS].to_pylist()
    assert with_windows[s.WINDOW_TOKENS][0].as_py() == sum(n + 2 if n else 0 for n in counts)


def test_an_entity_across_windows_stays_one_span(tmp_path: Path) -> None:
    """Transformers cuts an entity that lies in two windows. distilray keeps a run of one label as one span."""
    folder = make_checkpoint(tmp_path / "model", ("I-PER",), positions=40)
    text = " ".join(["lincoln"] * 300)
    assert [(e["start"], e["end"]) for e in answer(folder, [text], aggregation="first")["entities"][0].as_py()] == [
        (0, len(text))
    ]


@pytest.mark.slow
def test_a_text_of_10_megabytes_is_answered_to_its_end(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "model", ("I-PER", "B-PER"), layers=1, dim=16, heads=2, hidden_dim=16)
    text = "lincoln met mary in washington " * (10_000_000 // 31) + "Springfield."
    entities = answer(folder, [text, "paris"], aggregation="simple")["entities"]
    assert entities[0][-1].as_py()["end"] == len(text)
    assert len(entities[1]) == 1

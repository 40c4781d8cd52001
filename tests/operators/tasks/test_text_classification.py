"""Text classification: compat hf equals the Transformers pipeline, and the default rules equal a loop over windows."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from distilray.model.checkpoint.checkpoint import Checkpoint
from distilray.model.inference.windows import split_into_windows
from distilray.model.tokenizer.tokenizer import Tokenizer
from distilray.operators.tasks import TextClassification
from tests.operators.harness import answers, assert_rejected, read_answers, reasons
from tests.operators.reference import (
    SCORE_GATE,
    assert_ranked,
    corpus_vocabulary,
    hf_answers,
    mixed_texts,
    passage,
    scaled_tolerance,
)
from tests.support import make_checkpoint

LABELS = ("bad", "so so", "good", "LABEL-3", "\u00fcber", "none", "other")
TEXTS = mixed_texts()
PAIRS = [{"text": a, "text_pair": b} for a, b in zip(TEXTS, [*TEXTS[100:], *TEXTS[:100]], strict=True)]


@dataclass(frozen=True)
class Kind:
    """The labels and settings of a model."""

    labels: tuple[str, ...]
    problem_type: str | None
    lower: bool = True


KINDS = {
    "single label": Kind(LABELS, "single_label_classification"),
    "no problem type": Kind(LABELS[:3], None, lower=False),
    "multi-label": Kind(LABELS, "multi_label_classification"),
    "one label": Kind(("score",), None),
    "one label of many": Kind(("score",), "multi_label_classification"),
    "regression": Kind(("score",), "regression"),
    "several numbers": Kind(LABELS[:4], "regression", lower=False),
}


def checkpoint(folder: Path, kind: Kind, **options: Any) -> Path:
    """Make a model. An uncased model has the vocabulary of the corpus, a cased one that of the tests."""
    vocab = list(corpus_vocabulary()) if kind.lower else None
    settings = {
        "head": "sequence-classification",
        "problem_type": kind.problem_type,
        "lower": kind.lower,
        "vocab": vocab,
    }
    return make_checkpoint(folder, kind.labels, **(settings | {"layers": 1} | options))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {
        name: checkpoint(tmp_path_factory.mktemp("model"), kind, layers=1 + (name == "single label"))
        for name, kind in KINDS.items()
    }


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with 40 positions."""
    return checkpoint(tmp_path_factory.mktemp("short"), KINDS["single label"], positions=40)


def labels(folder: Path, texts: list[str], pairs: list[str] | None = None, **options: Any) -> list[Any]:
    """Return the answers of distilray."""
    if pairs is None:
        return answers(TextClassification(model=str(folder), **options), texts)["label"].to_pylist()
    task = TextClassification(model=str(folder), text_pair="pair", **options)
    return answers(task, texts, pair=pairs)["label"].to_pylist()


def assert_best(actual: list[dict[str, Any]], expected: list[dict[str, Any]], tolerance: float = SCORE_GATE) -> None:
    """Assert that each text has the same label, with scores within the tolerance."""
    assert_ranked([[entry] for entry in actual], [[entry] for entry in expected], tolerance)


# against the pipeline


@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_pipeline(folders: dict[str, Path], kind: str) -> None:
    expected = hf_answers("text-classification", folders[kind], TEXTS, top_k=None)
    actual = labels(folders[kind], TEXTS, top_k="all", compat="hf")
    assert_ranked(actual, expected, scaled_tolerance([entry["score"] for answer in expected for entry in answer]))
    assert len({answer[0]["label"] for answer in expected}) >= min(len(KINDS[kind].labels), 3)


@pytest.mark.parametrize("kind", KINDS)
def test_the_best_and_the_three_best_equal_the_pipeline(folders: dict[str, Path], kind: str) -> None:
    texts = TEXTS[::5]
    expected_labels = hf_answers("text-classification", folders[kind], texts, top_k=3)
    tolerance = scaled_tolerance([entry["score"] for answer in expected_labels for entry in answer])
    assert_ranked(labels(folders[kind], texts, top_k=3, compat="hf"), expected_labels, tolerance)
    best = hf_answers("text-classification", folders[kind], texts)
    assert_best(labels(folders[kind], texts, compat="hf"), best, tolerance)


@pytest.mark.parametrize("function", ["softmax", "sigmoid", "none"])
@pytest.mark.parametrize("kind", ["multi-label", "one label"])
def test_an_explicit_function_equals_the_pipeline(folders: dict[str, Path], kind: str, function: str) -> None:
    texts = TEXTS[::4]
    expected = hf_answers("text-classification", folders[kind], texts, top_k=None, function_to_apply=function)
    tolerance = scaled_tolerance([entry["score"] for answer in expected for entry in answer])
    assert_ranked(labels(folders[kind], texts, top_k="all", compat="hf", function=function), expected, tolerance)


@pytest.mark.parametrize("kind", ["single label", "multi-label"])
def test_pairs_equal_the_pipeline(folders: dict[str, Path], kind: str) -> None:
    expected = hf_answers("text-classification", folders[kind], PAIRS, top_k=None)
    texts, pairs = ([pair[name] for pair in PAIRS] for name in ("text", "text_pair"))
    assert_ranked(labels(folders[kind], texts, pairs, top_k="all", compat="hf"), expected)


@pytest.mark.parametrize("positions", [40, 41])
def test_long_texts_are_truncated_as_by_the_pipeline(tmp_path: Path, positions: int) -> None:
    folder = checkpoint(tmp_path, KINDS["single label"], positions=positions)
    expected = hf_answers("text-classification", folder, TEXTS, top_k=None, truncation=True)
    task = TextClassification(model=str(folder), top_k="all", compat="hf", long_texts="truncate")
    table = answers(task, TEXTS)
    assert_ranked(table["label"].to_pylist(), expected)
    sizes = np.diff(Tokenizer(Checkpoint(str(folder)), "special")(TEXTS).offsets)
    assert table["label_truncated"].to_pylist() == (sizes > positions - 2).tolist()
    assert 50 < table["label_truncated"].to_numpy().sum() < 200


@pytest.mark.parametrize("positions", [40, 41])
def test_long_pairs_are_truncated_as_by_the_pipeline(tmp_path: Path, positions: int) -> None:
    """The longer text is truncated first. Both are truncated if the shorter text has more than half of the tokens."""
    folder = checkpoint(tmp_path, KINDS["single label"], positions=positions)
    same = [{"text": text, "text_pair": text} for text in TEXTS[:100]]
    expected = hf_answers("text-classification", folder, [*PAIRS, *same], top_k=None, truncation=True)
    texts, pairs = ([pair[name] for pair in [*PAIRS, *same]] for name in ("text", "text_pair"))
    task = TextClassification(model=str(folder), text_pair="pair", top_k="all", compat="hf", long_texts="truncate")
    table = answers(task, texts, pair=pairs)
    assert reasons(table) == [None] * len(texts)
    assert_ranked(table["label"].to_pylist(), expected)
    sizes = [np.diff(Tokenizer(Checkpoint(str(folder)), "special")(column).offsets) for column in (texts, pairs)]
    assert table["label_truncated"].to_pylist() == (sum(sizes) > positions - 3).tolist()


# the default rules


@torch.inference_mode()
def windowed(
    model: transformers.PreTrainedModel, tokenizer: Tokenizer, text: str, pair: str | None, how: str
) -> np.ndarray:
    """Return the logits of the model of Transformers, combined over the windows of a text, [labels]."""
    tokens = tokenizer([text])
    second = [] if pair is None else [*tokenizer([pair]).input_ids.tolist(), tokenizer.specials.sep_id]
    capacity = tokenizer.max_length - 2 - len(second)
    windows = split_into_windows(tokens.offsets, tokens.word_ids, capacity, min(64, capacity // 4), min_windows=1)
    logits = []
    for start, end in zip(windows.start, windows.end, strict=True):
        ids = [tokenizer.specials.cls_id, *tokens.input_ids[start:end].tolist(), tokenizer.specials.sep_id, *second]
        logits.append(model(torch.tensor([ids])).logits[0].numpy())
    return np.max(logits, axis=0) if how == "max" else np.mean(logits, axis=0)


@pytest.mark.parametrize("pairs", [False, True], ids=["single", "pairs"])
@pytest.mark.parametrize("how", ["mean", "max"])
def test_windows_are_combined_as_in_a_loop(short: Path, how: str, pairs: bool) -> None:
    """Texts and pairs have all lengths, also zero. A long second text leaves short windows for the first."""
    texts = ["", *TEXTS[::12], passage(3, 400), "", passage(5, 90)]
    seconds = [passage(i, i % 17) for i in range(len(texts))] if pairs else None
    actual = labels(short, texts, seconds, long_texts=how, top_k="all", function="none")
    scores = [{entry["label"]: entry["score"] for entry in answer} for answer in actual]
    model = transformers.AutoModelForSequenceClassification.from_pretrained(short).eval()
    tokenizer = Tokenizer(Checkpoint(str(short)))
    expected_answers = [
        windowed(model, tokenizer, text, seconds[i] if seconds else None, how) for i, text in enumerate(texts)
    ]
    for answer_scores, expected in zip(scores, expected_answers, strict=True):
        assert [answer_scores[label] for label in LABELS] == pytest.approx(
            expected.tolist(), abs=scaled_tolerance(np.ravel(expected_answers))
        )


@pytest.mark.parametrize("how", ["truncate", "mean", "max"])
def test_the_option_long_texts_changes_only_long_texts(short: Path, how: str) -> None:
    task = TextClassification(model=str(short), top_k="all", name="all")
    other = TextClassification(model=str(short), top_k="all", name="other", long_texts=how)
    table = answers([task, other], TEXTS)
    fits = np.array([reason is None for reason in reasons(table)])
    same = [a == b for a, b in zip(table["all"].to_pylist(), table["other"].to_pylist(), strict=True)]
    assert all(np.array(same)[fits])
    assert 50 < fits.sum() < 200
    if how == "truncate":
        assert table["other_truncated"].to_pylist() == (~fits).tolist()
    else:
        assert not any(np.array(same)[~fits])


def test_a_multi_label_model_returns_the_labels_that_reach_their_threshold(folders: dict[str, Path]) -> None:
    # Transformers and the default rules read these texts in the same way
    texts = [text for text in TEXTS if "[" not in text]
    all_labels = hf_answers("text-classification", folders["multi-label"], texts, top_k=None)
    for options, limits in (
        ({}, {}),
        ({"threshold": 0.8}, dict.fromkeys(LABELS, 0.8)),
        (
            {"threshold": 0.0, "thresholds": {"so so": 0.8, "none": 1.0}},
            dict.fromkeys(LABELS, 0.0) | {"so so": 0.8, "none": 1.0},
        ),
        ({"thresholds": {"so so": 0.1}}, {"so so": 0.1}),
    ):
        expected_answers = [
            [entry for entry in answer if entry["score"] >= limits.get(entry["label"], 0.5)] for answer in all_labels
        ]
        assert_ranked(labels(folders["multi-label"], texts, **options), expected_answers)
        assert len({len(answer) for answer in expected_answers}) > 1


def test_a_literal_separator_is_text(short: Path) -> None:
    """Transformers reads a pair. The default rules read the brackets as text."""
    single, pair = ["peace [SEP] war"], (["peace"], ["war"])
    assert_best(labels(short, single, compat="hf"), labels(short, *pair, compat="hf"))
    assert labels(short, single)[0]["score"] != pytest.approx(labels(short, *pair)[0]["score"], abs=0.01)


# dead letters, and rows without words


def test_only_a_text_that_is_too_long_is_a_dead_letter(short: Path) -> None:
    texts = ["", passage(1, 100), "lincoln", "war " * 38, "war " * 39, "peace"]
    table = answers(TextClassification(model=str(short)), texts)
    assert reasons(table) == [None, "text_too_long", None, None, "text_too_long", None]
    assert "the model's 40 tokens" in table["_message"][1].as_py()
    answered = [0, 2, 3, 5]
    assert_best(table["label"].take(answered).to_pylist(), labels(short, [texts[i] for i in answered]))


def test_only_a_second_text_that_is_too_long_is_a_dead_letter(short: Path) -> None:
    """35 tokens of the second text leave 2 for the first, which is too few for windows. 37 tokens leave none."""
    texts = ["war", "war peace", "war", "", "war peace treasury", "war " * 300]
    pairs = ["", "war " * 35, "war " * 37, "war " * 36, "war " * 35, "war " * 30]
    task = TextClassification(model=str(short), text_pair="pair")
    assert reasons(answers(task, texts, pair=pairs)) == [
        None,
        None,
        "text_pair_too_long",
        None,
        "text_too_long",
        "text_too_long",
    ]
    table = answers(TextClassification(model=str(short), text_pair="pair", long_texts="max"), texts, pair=pairs)
    assert reasons(table) == [None, None, "text_pair_too_long", None, "text_pair_too_long", None]
    answered = [0, 1, 3]
    expected_labels = labels(short, [texts[i] for i in answered], [pairs[i] for i in answered])
    assert_best(table["label"].take(answered).to_pylist(), expected_labels)


def test_a_null_or_invalid_text_is_a_dead_letter(tmp_path: Path, short: Path) -> None:
    texts = ["lincoln", None, "peace", "war", ""]
    pairs = [b"war", b"peace", None, b"\xff", b""]
    table = read_answers(tmp_path, TextClassification(model=str(short), text_pair="pair"), texts, pair=pairs)
    assert reasons(table) == [None, "null_text", "null_text", "invalid_utf8", None]
    assert [message for message in table["_message"].to_pylist() if message] == [
        "the text is null",
        "column pair is null",
        "column pair is not valid UTF-8",
    ]
    assert_best(table["label"].take([0, 4]).to_pylist(), labels(short, ["lincoln", ""], ["war", ""]))


def test_no_rows_give_no_answers(short: Path) -> None:
    for how in ("error", "truncate", "mean", "max"):
        assert labels(short, [], long_texts=how) == []
    assert labels(short, [], [], top_k=3) == []


# options that do not fit


def test_thresholds_must_fit_the_model(folders: dict[str, Path]) -> None:
    many, one = str(folders["multi-label"]), str(folders["single label"])
    assert_rejected(TextClassification(model=many, thresholds={"goood": 0.5}), "no label goood; it has bad, so so")
    assert_rejected(
        TextClassification(model=one, threshold=0.5), "only for multi-label models; this one is for single_label"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compat": "hf", "long_texts": "mean"}, "supports neither windows .* nor thresholds"),
        ({"compat": "hf", "threshold": 0.5}, "supports neither windows .* nor thresholds"),
        ({"top_k": 2, "threshold": 0.5}, "either top_k or thresholds"),
        ({"top_k": 0}, "top_k"),
        ({"top_k": "most"}, "top_k"),
    ],
)
def test_contradictory_options_are_an_error(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TextClassification(model="m", **options)

"""Text classification: compat hf equals the Transformers pipeline, and our own rules equal a loop over windows."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from distilray.model.checkpoint.checkpoint import Checkpoint
from distilray.model.inference.windows import split
from distilray.model.tokenizer.tokenizer import Tokenizer
from distilray.operators.tasks import TextClassification
from tests.operators.harness import answers, read_answers, reasons, refused
from tests.operators.material import (
    SCORE_GATE,
    assert_ranked,
    corpus_vocabulary,
    hf_answers,
    mixed_texts,
    passage,
    spread,
)
from tests.support import make_checkpoint

LABELS = ("bad", "so so", "good", "LABEL-3", "\u00fcber", "none", "other")
TEXTS = mixed_texts()
PAIRS = [{"text": a, "text_pair": b} for a, b in zip(TEXTS, [*TEXTS[100:], *TEXTS[:100]], strict=True)]


@dataclass(frozen=True)
class Kind:
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
    """The corpus's vocabulary is uncased: cased models take the one of the tests."""
    vocab = list(corpus_vocabulary()) if kind.lower else None
    chosen = {"head": "sequence-classification", "problem_type": kind.problem_type, "lower": kind.lower, "vocab": vocab}
    return make_checkpoint(folder, kind.labels, **(chosen | {"layers": 1} | options))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {
        name: checkpoint(tmp_path_factory.mktemp("model"), kind, layers=1 + (name == "single label"))
        for name, kind in KINDS.items()
    }


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that holds 40 tokens."""
    return checkpoint(tmp_path_factory.mktemp("short"), KINDS["single label"], positions=40)


def labels(folder: Path, texts: list[str], pairs: list[str] | None = None, **options: Any) -> list[Any]:
    """Our answers."""
    if pairs is None:
        return answers(TextClassification(model=str(folder), **options), texts)["label"].to_pylist()
    task = TextClassification(model=str(folder), text_pair="pair", **options)
    return answers(task, texts, pair=pairs)["label"].to_pylist()


def assert_best(ours: list[dict[str, Any]], theirs: list[dict[str, Any]], gate: float = SCORE_GATE) -> None:
    """The same label for each text."""
    assert_ranked([[each] for each in ours], [[each] for each in theirs], gate)


# against the pipeline


@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_pipeline(folders: dict[str, Path], kind: str) -> None:
    theirs = hf_answers("text-classification", folders[kind], TEXTS, top_k=None)
    ours = labels(folders[kind], TEXTS, top_k="all", compat="hf")
    assert_ranked(ours, theirs, spread([each["score"] for answer in theirs for each in answer]))
    assert len({answer[0]["label"] for answer in theirs}) >= min(len(KINDS[kind].labels), 3)


@pytest.mark.parametrize("kind", KINDS)
def test_the_best_and_the_three_best_equal_the_pipelines(folders: dict[str, Path], kind: str) -> None:
    texts = TEXTS[::5]
    some = hf_answers("text-classification", folders[kind], texts, top_k=3)
    gate = spread([each["score"] for answer in some for each in answer])
    assert_ranked(labels(folders[kind], texts, top_k=3, compat="hf"), some, gate)
    best = hf_answers("text-classification", folders[kind], texts)
    assert_best(labels(folders[kind], texts, compat="hf"), best, gate)


@pytest.mark.parametrize("function", ["softmax", "sigmoid", "none"])
@pytest.mark.parametrize("kind", ["multi-label", "one label"])
def test_an_explicit_function_equals_the_pipelines(folders: dict[str, Path], kind: str, function: str) -> None:
    texts = TEXTS[::4]
    theirs = hf_answers("text-classification", folders[kind], texts, top_k=None, function_to_apply=function)
    gate = spread([each["score"] for answer in theirs for each in answer])
    assert_ranked(labels(folders[kind], texts, top_k="all", compat="hf", function=function), theirs, gate)


@pytest.mark.parametrize("kind", ["single label", "multi-label"])
def test_pairs_equal_the_pipelines(folders: dict[str, Path], kind: str) -> None:
    theirs = hf_answers("text-classification", folders[kind], PAIRS, top_k=None)
    texts, pairs = ([pair[name] for pair in PAIRS] for name in ("text", "text_pair"))
    assert_ranked(labels(folders[kind], texts, pairs, top_k="all", compat="hf"), theirs)


@pytest.mark.parametrize("positions", [40, 41])
def test_long_texts_are_cut_as_the_pipeline_cuts_them(tmp_path: Path, positions: int) -> None:
    folder = checkpoint(tmp_path, KINDS["single label"], positions=positions)
    theirs = hf_answers("text-classification", folder, TEXTS, top_k=None, truncation=True)
    task = TextClassification(model=str(folder), top_k="all", compat="hf", long_texts="truncate")
    table = answers(task, TEXTS)
    assert_ranked(table["label"].to_pylist(), theirs)
    sizes = np.diff(Tokenizer(Checkpoint(str(folder)), "special")(TEXTS).offsets)
    assert table["label_truncated"].to_pylist() == (sizes > positions - 2).tolist()
    assert 50 < table["label_truncated"].to_numpy().sum() < 200


@pytest.mark.parametrize("positions", [40, 41])
def test_long_pairs_are_cut_as_the_pipeline_cuts_them(tmp_path: Path, positions: int) -> None:
    """The longer text first; both, if even the shorter has more than its half."""
    folder = checkpoint(tmp_path, KINDS["single label"], positions=positions)
    same = [{"text": text, "text_pair": text} for text in TEXTS[:100]]
    theirs = hf_answers("text-classification", folder, [*PAIRS, *same], top_k=None, truncation=True)
    texts, pairs = ([pair[name] for pair in [*PAIRS, *same]] for name in ("text", "text_pair"))
    task = TextClassification(model=str(folder), text_pair="pair", top_k="all", compat="hf", long_texts="truncate")
    table = answers(task, texts, pair=pairs)
    assert reasons(table) == [None] * len(texts)
    assert_ranked(table["label"].to_pylist(), theirs)
    sizes = [np.diff(Tokenizer(Checkpoint(str(folder)), "special")(each).offsets) for each in (texts, pairs)]
    assert table["label_truncated"].to_pylist() == (sum(sizes) > positions - 3).tolist()


# our own rules


@torch.inference_mode()
def windowed(
    model: transformers.PreTrainedModel, tokenizer: Tokenizer, text: str, pair: str | None, how: str
) -> np.ndarray:
    """The logits of Transformers' model for each window of a text, combined: [labels]."""
    tokens = tokenizer([text])
    second = [] if pair is None else [*tokenizer([pair]).input_ids.tolist(), tokenizer.specials.sep_id]
    capacity = tokenizer.max_length - 2 - len(second)
    windows = split(tokens.offsets, tokens.word_ids, capacity, min(64, capacity // 4), min_windows=1)
    logits = []
    for start, end in zip(windows.start, windows.end, strict=True):
        ids = [tokenizer.specials.cls_id, *tokens.input_ids[start:end].tolist(), tokenizer.specials.sep_id, *second]
        logits.append(model(torch.tensor([ids])).logits[0].numpy())
    return np.max(logits, axis=0) if how == "max" else np.mean(logits, axis=0)


@pytest.mark.parametrize("pairs", [False, True], ids=["single", "pairs"])
@pytest.mark.parametrize("how", ["mean", "max"])
def test_windows_are_combined_as_a_loop_combines_them(short: Path, how: str, pairs: bool) -> None:
    """Texts and pairs of all lengths, empty ones among them: with a long pair the windows of the text are short."""
    texts = ["", *TEXTS[::12], passage(3, 400), "", passage(5, 90)]
    seconds = [passage(i, i % 17) for i in range(len(texts))] if pairs else None
    ours = labels(short, texts, seconds, long_texts=how, top_k="all", function="none")
    scores = [{each["label"]: each["score"] for each in answer} for answer in ours]
    model = transformers.AutoModelForSequenceClassification.from_pretrained(short).eval()
    tokenizer = Tokenizer(Checkpoint(str(short)))
    wanted = [windowed(model, tokenizer, text, seconds[i] if seconds else None, how) for i, text in enumerate(texts)]
    for mine, theirs in zip(scores, wanted, strict=True):
        assert [mine[label] for label in LABELS] == pytest.approx(theirs.tolist(), abs=spread(np.ravel(wanted)))


@pytest.mark.parametrize("how", ["truncate", "mean", "max"])
def test_what_is_done_with_long_texts_matters_to_long_texts_only(short: Path, how: str) -> None:
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


def test_labels_of_a_multi_label_model_are_those_that_reach_their_threshold(folders: dict[str, Path]) -> None:
    texts = [text for text in TEXTS if "[" not in text]  # those read alike by Transformers and by our own rules
    every = hf_answers("text-classification", folders["multi-label"], texts, top_k=None)
    for options, limits in (
        ({}, {}),
        ({"threshold": 0.8}, dict.fromkeys(LABELS, 0.8)),
        (
            {"threshold": 0.0, "thresholds": {"so so": 0.8, "none": 1.0}},
            dict.fromkeys(LABELS, 0.0) | {"so so": 0.8, "none": 1.0},
        ),
        ({"thresholds": {"so so": 0.1}}, {"so so": 0.1}),
    ):
        wanted = [[each for each in answer if each["score"] >= limits.get(each["label"], 0.5)] for answer in every]
        assert_ranked(labels(folders["multi-label"], texts, **options), wanted)
        assert len({len(answer) for answer in wanted}) > 1


def test_a_literal_separator_is_text(short: Path) -> None:
    """Transformers sees a pair; ours reads the brackets."""
    said, pair = ["peace [SEP] war"], (["peace"], ["war"])
    assert_best(labels(short, said, compat="hf"), labels(short, *pair, compat="hf"))
    assert labels(short, said)[0]["score"] != pytest.approx(labels(short, *pair)[0]["score"], abs=0.01)


# dead letters, and rows without words


def test_a_text_too_long_is_a_dead_letter_and_the_others_are_answered(short: Path) -> None:
    texts = ["", passage(1, 100), "lincoln", "war " * 38, "war " * 39, "peace"]
    table = answers(TextClassification(model=str(short)), texts)
    assert reasons(table) == [None, "text_too_long", None, None, "text_too_long", None]
    assert "the model's 40 tokens" in table["_message"][1].as_py()
    alive = [0, 2, 3, 5]
    assert_best(table["label"].take(alive).to_pylist(), labels(short, [texts[i] for i in alive]))


def test_a_second_text_too_long_is_a_dead_letter_and_the_others_are_answered(short: Path) -> None:
    """35 tokens of the second leave 2 for the first, too few to read it in windows; 37 leave none."""
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
    alive = [0, 1, 3]
    some = labels(short, [texts[i] for i in alive], [pairs[i] for i in alive])
    assert_best(table["label"].take(alive).to_pylist(), some)


def test_a_null_or_a_broken_text_is_a_dead_letter(tmp_path: Path, short: Path) -> None:
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


def test_no_rows_have_no_answers(short: Path) -> None:
    for how in ("error", "truncate", "mean", "max"):
        assert labels(short, [], long_texts=how) == []
    assert labels(short, [], [], top_k=3) == []


# options that do not fit


def test_thresholds_must_fit_the_model(folders: dict[str, Path]) -> None:
    many, one = str(folders["multi-label"]), str(folders["single label"])
    refused(TextClassification(model=many, thresholds={"goood": 0.5}), "no label goood; it has bad, so so")
    refused(TextClassification(model=one, threshold=0.5), "only for multi-label models; this one is for single_label")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"compat": "hf", "long_texts": "mean"}, "supports neither windows .* nor thresholds"),
        ({"compat": "hf", "threshold": 0.5}, "supports neither windows .* nor thresholds"),
        ({"top_k": 2, "threshold": 0.5}, "either top_k or thresholds"),
        ({"top_k": 0}, "top_k"),
        ({"top_k": "most"}, "top_k"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        TextClassification(model="m", **options)

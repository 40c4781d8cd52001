"""Zero-shot classification: compat hf equals the Transformers pipeline, and the default rules a loop over windows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from distilray.model.checkpoint.checkpoint import Checkpoint
from distilray.model.inference.windows import split_into_windows
from distilray.model.tokenizer.tokenizer import Tokenizer
from distilray.operators.tasks import ZeroShotClassification
from tests.operators.harness import answers, assert_rejected, reasons
from tests.operators.reference import SCORE_GATE, assert_ranked, corpus_vocabulary, hf_answers, mixed_texts, passage
from tests.support import make_checkpoint

NLI = ("contradiction", "neutral", "entailment")
VERDICTS = {
    "last": NLI,
    "first": ("ENTAILMENT", "neutral", "contradiction"),
    "middle": ("contradiction", "Entailed", "neutral"),
    "absent": ("yes", "perhaps", "no"),
    "two": ("entailment", "not_entailment"),
}
POSITIONS = 48
TEXTS = mixed_texts(50)
TOPICS = ["war and peace", "money"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models with 48 positions. One of them is cased."""
    options: dict[str, Any] = {"head": "sequence-classification", "positions": POSITIONS, "layers": 1}
    corpus = {"vocab": list(corpus_vocabulary())}
    return {
        name: make_checkpoint(
            tmp_path_factory.mktemp("nli"), labels, **options, **({"lower": False} if name == "two" else corpus)
        )
        for name, labels in VERDICTS.items()
    }


@pytest.fixture(scope="module")
def folder(folders: dict[str, Path]) -> Path:
    return folders["last"]


def task(folder: Path, topics: list[str] = TOPICS, **options: Any) -> ZeroShotClassification:
    return ZeroShotClassification(model=str(folder), labels=topics, **options)


def topics_of(folder: Path, texts: list[str], topics: list[str] = TOPICS, **options: Any) -> list[list[dict]]:
    """Return the answers of distilray."""
    return answers(task(folder, topics, **options), texts)["label"].to_pylist()


def hf_topics(folder: Path, texts: list[str], topics: list[str] = TOPICS, **options: Any) -> list[list[dict]]:
    """Return the answers of the pipeline in the same form."""
    outputs = hf_answers("zero-shot-classification", folder, texts, candidate_labels=topics, **options)
    return [
        [{"label": label, "score": score} for label, score in zip(answer["labels"], answer["scores"], strict=True)]
        for answer in outputs
    ]


# against the pipeline


@pytest.mark.parametrize("multi_label", [False, True], ids=["one", "many"])
@pytest.mark.parametrize("verdicts", VERDICTS)
def test_equals_the_pipeline(folders: dict[str, Path], verdicts: str, multi_label: bool) -> None:
    """Texts have up to 50 words and the model has 48 positions: some texts are truncated."""
    options = {"multi_label": multi_label}
    actual = answers(task(folders[verdicts], compat="hf", long_texts="truncate", **options), TEXTS)
    assert_ranked(actual["label"].to_pylist(), hf_topics(folders[verdicts], TEXTS, **options))
    assert 30 < actual["label_truncated"].to_numpy().sum() < 180


@pytest.mark.parametrize("multi_label", [False, True], ids=["one", "many"])
@pytest.mark.parametrize(
    ("topics", "hypothesis"),
    [
        (["war"], "This example is {}."),
        (["war", "peace", "treasury of the United States", "caf\u00e9", "[SEP]"], "It says {} and {}?"),
        (["a", "b " * 25], "{}"),
    ],
    ids=["one", "five", "long"],
)
def test_other_labels_and_hypotheses_equal_the_pipeline(
    folders: dict[str, Path], topics: list[str], hypothesis: str, multi_label: bool
) -> None:
    """A longer hypothesis leaves fewer tokens for the text."""
    texts = TEXTS[::4]
    expected = hf_topics(
        folders["middle"],
        texts,
        topics,
        multi_label=multi_label,
        hypothesis_template=hypothesis.replace("{}", "{0}"),
    )
    options = {"hypothesis": hypothesis, "multi_label": multi_label, "compat": "hf", "long_texts": "truncate"}
    assert_ranked(topics_of(folders["middle"], texts, topics, **options), expected)


@pytest.mark.parametrize("multi_label", [False, True], ids=["one", "many"])
def test_the_default_rules_equal_the_pipeline_where_it_has_no_defect(folder: Path, multi_label: bool) -> None:
    """The texts fit and have no special tokens, and the labels of the model have the usual order."""
    texts = [text for text in TEXTS if "[" not in text]
    table = answers(task(folder, multi_label=multi_label), texts)
    fits = [i for i, reason in enumerate(reasons(table)) if reason is None]
    assert 50 < len(fits) < len(texts)
    expected = hf_topics(folder, [texts[i] for i in fits], multi_label=multi_label)
    assert_ranked(table["label"].take(fits).to_pylist(), expected)


# the default rules


@torch.inference_mode()
def windowed(folder: Path, texts: list[str], how: str) -> np.ndarray:
    """Return the logits of the model of Transformers, combined over the windows of a text, [R, topics, verdicts]."""
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = Tokenizer(Checkpoint(str(folder)))
    cls_id, sep_id = tokenizer.specials
    hypotheses = [tokenizer([f"This example is {topic}."]).input_ids.tolist() for topic in TOPICS]
    capacity = POSITIONS - 3 - max(map(len, hypotheses))

    def combined(text: str, hypothesis: list[int]) -> np.ndarray:
        tokens = tokenizer([text])
        windows = split_into_windows(tokens.offsets, tokens.word_ids, capacity, capacity // 4, min_windows=1)
        inputs = [tokens.input_ids[a:b].tolist() for a, b in zip(windows.start, windows.end, strict=True)]
        logits = [
            model(torch.tensor([[cls_id, *ids, sep_id, *hypothesis, sep_id]])).logits[0].numpy() for ids in inputs
        ]
        return np.max(logits, axis=0) if how == "max" else np.mean(logits, axis=0)

    return np.array([[combined(text, hypothesis) for hypothesis in hypotheses] for text in texts])


@pytest.mark.parametrize("verdicts", ["first", "middle"])
@pytest.mark.parametrize("how", ["mean", "max"])
def test_windows_are_combined_as_in_a_loop(folders: dict[str, Path], verdicts: str, how: str) -> None:
    folder, names = folders[verdicts], [name.lower()[:6] for name in VERDICTS[verdicts]]
    texts = ["", *TEXTS[::24], passage(3, 200), ""]
    logits = windowed(folder, texts, how)
    entails, contradicts = logits[:, :, names.index("entail")], logits[:, :, names.index("contra")]
    one = np.exp(entails) / np.exp(entails).sum(axis=1, keepdims=True)
    many = 1 / (1 + np.exp(contradicts - entails))
    for multi_label, expected_scores in ((False, one), (True, many)):
        outputs = topics_of(folder, texts, long_texts=how, multi_label=multi_label)
        scores = [{entry["label"]: entry["score"] for entry in answer} for answer in outputs]
        np.testing.assert_allclose([[s[topic] for topic in TOPICS] for s in scores], expected_scores, atol=SCORE_GATE)
        assert all(answer[0]["score"] >= answer[1]["score"] for answer in outputs)


def test_a_label_does_not_depend_on_other_labels(folder: Path) -> None:
    """With multi_label, the score of a label is the same alone, with other labels, and beside another task."""
    texts = [text for text in TEXTS if len(text) < 100]
    together = topics_of(folder, texts, ["war", "money", "peace"], multi_label=True)
    beside = [task(folder, ["peace", "war"], multi_label=True, name="a"), task(folder, ["war"], name="b")]
    table = answers(beside, texts)
    for answer, pair, alone in zip(together, table["a"].to_pylist(), table["b"].to_pylist(), strict=True):
        scores = {entry["label"]: entry["score"] for entry in answer}
        assert {entry["label"]: entry["score"] for entry in pair} == pytest.approx(
            {topic: scores[topic] for topic in ("war", "peace")}, abs=SCORE_GATE
        )
        assert alone[0]["score"] == pytest.approx(scores["war"], abs=SCORE_GATE)


def test_only_a_text_that_is_too_long_is_a_dead_letter(folder: Path) -> None:
    """The longest hypothesis has 7 tokens and leaves 38 for the text."""
    texts = ["", "war " * 38, "war " * 39, passage(1, 100), "peace"]
    table = answers(task(folder), texts)
    assert reasons(table) == [None, None, "text_too_long", "text_too_long", None]
    assert_ranked(table["label"].take([0, 1, 4]).to_pylist(), topics_of(folder, [texts[0], texts[1], texts[4]]))
    assert reasons(answers(task(folder, long_texts="mean"), texts)) == [None] * 5
    truncated = answers(task(folder, long_texts="truncate"), texts)
    assert truncated["label_truncated"].to_pylist() == [False, False, True, True, False]
    assert_ranked(truncated["label"].take([1]).to_pylist(), truncated["label"].take([2]).to_pylist())


def test_no_rows_give_no_answers(folder: Path) -> None:
    for how in ("error", "truncate", "mean", "max"):
        assert topics_of(folder, [], long_texts=how) == []


def test_unsuitable_models_and_options_are_an_error(folders: dict[str, Path]) -> None:
    assert_rejected(
        task(folders["absent"]), "entailment and contradiction, got yes, perhaps, no: choose a model of natural"
    )
    assert_rejected(task(folders["last"], ["war", "war " * 45]), "a hypothesis of 49 tokens leaves no room for a text")
    for options, message in (
        ({"labels": ["a", "a"]}, "labels must differ"),
        ({"labels": []}, "labels"),
        ({"labels": ["a"], "hypothesis": "about it"}, 'must have a "{}"'),
        ({"labels": ["a"], "compat": "hf"}, "set long_texts to truncate"),
        ({"labels": ["a"], "compat": "hf", "long_texts": "max"}, "set long_texts to truncate"),
    ):
        with pytest.raises(ValueError, match=message):
            ZeroShotClassification(model="m", **options)

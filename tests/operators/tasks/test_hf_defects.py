"""Known defects of Transformers that distilray does not have: one test each, on checkpoints with chosen logits.

The tests run the pipelines. Transformers has no question answering pipeline any more, so compat hf replaces it here;
test_question_answering.py compares compat hf with the last version of that pipeline.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from distilray.operators.predict import PredictUnit
from distilray.operators.tasks import (
    FillMask,
    QuestionAnswering,
    TextClassification,
    TokenClassification,
    ZeroShotClassification,
)
from distilray.operators.tokenize import TokenizeUnit
from distilray.operators.worker_config import ComputeSpec
from tests.operators.harness import answers, reasons, rows
from tests.operators.reference import assert_ranked, hf_answers, hf_pipeline
from tests.operators.tasks.word_model import make_word_model
from tests.support import make_checkpoint

FILLER = " and the war of the"


def logits_for(label: str, labels: tuple[str, ...], score: float = 0.999) -> list[float]:
    """Return logits whose softmax gives one label the score, and the other labels equal shares of the rest."""
    rest = (1 - score) / (len(labels) - 1)
    return [float(np.log(score if name == label else rest)) for name in labels]


def tagger(folder: Path, labels: tuple[str, ...], words: dict[str, str], **options: Any) -> Path:
    """Make a token classifier with a label for each of some words, and O for all others."""
    words = dict.fromkeys(FILLER.split(), "O") | words
    return make_word_model(
        folder, {word: logits_for(label, labels) for word, label in words.items()}, labels, **options
    )


def spans(entities: list[dict[str, Any]], text: str) -> list[tuple[str, str]]:
    """Return (text, label) of each entity."""
    return [(text[e["start"] : e["end"]], e.get("label") or e.get("entity_group") or e["entity"]) for e in entities]


def hf_spans(folder: Path, text: str, strategy: str = "simple", **options: Any) -> list[tuple[str, str]]:
    ner = hf_pipeline("token-classification", folder, aggregation_strategy=strategy, **options)
    return spans(ner(text), text)


def spans_of(folder: Path, text: str, strategy: str = "simple", **options: Any) -> list[tuple[str, str]]:
    task = TokenClassification(model=str(folder), aggregation=strategy, **options)
    return spans(answers(task, [text])["entities"][0].as_py(), text)


# token classification


@pytest.mark.parametrize("strategy", ["first", "average", "max"])
def test_a_decomposed_word_does_not_join_the_word_before(tmp_path: Path, strategy: str) -> None:
    """Transformers derives word starts from lengths, and "helene" is shorter than the decomposed word in the text."""
    labels = ("O", "I-PER", "I-LOC")
    words = {"paris": logits_for("I-LOC", labels), "helene": logits_for("I-PER", labels, 0.9)}
    folder = make_word_model(tmp_path, words, labels)
    decomposed, composed = "paris he\u0301le\u0300ne", "paris h\u00e9l\u00e8ne"
    assert hf_spans(folder, decomposed, strategy) == [(decomposed, "LOC")]
    assert spans_of(folder, decomposed, strategy) == [("paris", "LOC"), ("he\u0301le\u0300ne", "PER")]
    assert hf_spans(folder, composed, strategy) == spans_of(folder, composed, strategy)


def test_begin_inside_end_is_one_entity(tmp_path: Path) -> None:
    labels = ("O", "B-LOC", "I-LOC", "E-LOC", "S-LOC")
    folder = tagger(tmp_path, labels, {"new": "B-LOC", "york": "I-LOC", "city": "E-LOC"})
    text = "the new york city of war"
    assert hf_spans(folder, text) == [("new york", "LOC"), ("city", "LOC")]
    assert spans_of(folder, text) == [("new york city", "LOC")]


def test_two_single_word_entities_stay_separate(tmp_path: Path) -> None:
    labels = ("O", "B-LOC", "I-LOC", "E-LOC", "S-LOC")
    folder = tagger(tmp_path, labels, {"paris": "S-LOC", "london": "S-LOC"})
    assert hf_spans(folder, "paris london") == [("paris london", "LOC")]
    assert spans_of(folder, "paris london") == [("paris", "LOC"), ("london", "LOC")]


def test_a_label_with_a_dash_keeps_its_name(tmp_path: Path) -> None:
    labels = ("O", "DATE-TIME", "PERSON")
    folder = tagger(tmp_path, labels, {"noon": "DATE-TIME", "mary": "PERSON"})
    assert hf_spans(folder, "mary and noon") == [("mary", "PERSON"), ("noon", "TIME")]
    assert spans_of(folder, "mary and noon") == [("mary", "PERSON"), ("noon", "DATE-TIME")]


@pytest.mark.parametrize("overlap", [0, 2])
def test_an_entity_across_windows_stays_whole(tmp_path: Path, overlap: int) -> None:
    """Windows have 8 tokens, and an entity of 6 words crosses the end of the first window.

    Transformers returns one part of the entity, or two separate parts.
    """
    labels = ("O", "B-ORG", "I-ORG")
    name = "bank united states new york city"
    tags = dict.fromkeys(name.split(), "I-ORG") | {"bank": "B-ORG"}
    folder = tagger(tmp_path, labels, tags, positions=10)
    text = f"the war and the {name} and the war"
    expected = (
        [("bank united states new", "ORG"), ("york city", "ORG")]
        if overlap == 0
        else [("bank united states new", "ORG")]
    )
    assert hf_spans(folder, text, stride=overlap) == expected
    assert spans_of(folder, text, overlap=overlap) == [(name, "ORG")]


def test_a_long_span_with_a_low_score_does_not_replace_a_short_one(tmp_path: Path) -> None:
    """The model favours a person a little at the end of a window. The next window has the same words in its middle."""
    labels = ("O", "LOC", "PER", "X", "Y")
    words = {word: [30.0, 0, 0, 0, 0] for word in FILLER.split()}
    words |= {"paris": [0.0, 10, 0, 0, 0], "visited": [10.0, 0, 0, 0, 0]}
    doubtful = (-12.0, -12.0, 0.0, -0.1, -0.1)
    folder = make_word_model(tmp_path, words, labels, places={7: doubtful, 8: doubtful}, positions=10)
    text = "the war and the war of paris visited and the war and"
    ner = hf_pipeline("token-classification", folder, aggregation_strategy="simple", stride=4)
    [of_pipeline] = ner(text)
    assert spans([of_pipeline], text) == [("paris visited", "PER")]
    assert of_pipeline["score"] < 0.4
    task = TokenClassification(model=str(folder), aggregation="simple", overlap=4)
    [actual] = answers(task, [text])["entities"][0].as_py()
    assert spans([actual], text) == [("paris", "LOC")]
    assert actual["score"] > 0.999


def test_the_end_of_a_long_text_is_answered(tmp_path: Path) -> None:
    folder = tagger(tmp_path, ("O", "I-LOC"), {"paris": "I-LOC"}, positions=20)
    text = "paris" + FILLER * 10 + " paris"
    assert hf_spans(folder, text) == [("paris", "LOC")]
    assert spans_of(folder, text) == [("paris", "LOC"), ("paris", "LOC")]


# classification


def test_a_text_longer_than_the_model_does_not_stop_other_texts(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, ("bad", "good"), head="sequence-classification", positions=20, layers=1)
    texts = ["peace", "war " * 30, "paris"]
    with pytest.raises((RuntimeError, IndexError)):
        hf_answers("text-classification", folder, texts, batch_size=1)
    table = answers(TextClassification(model=str(folder)), texts)
    assert reasons(table) == [None, "text_too_long", None]
    of_pipeline = hf_answers("text-classification", folder, [texts[0], texts[2]])
    assert [answer["label"] for answer in table["label"].take([0, 2]).to_pylist()] == [
        answer["label"] for answer in of_pipeline
    ]


def test_contradiction_is_found_by_its_name(tmp_path: Path) -> None:
    """The model always answers contradiction, and its labels have an unusual order."""
    labels = ("neutral", "entailment", "contradiction")
    folder = make_checkpoint(tmp_path, labels, head="sequence-classification", layers=1, dim=16)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias[:] = torch.tensor([-6.0, 1.0, 7.0])
    model.save_pretrained(folder)
    options: dict[str, Any] = {"candidate_labels": ["war", "peace"], "multi_label": True}
    [of_pipeline, _] = hf_answers("zero-shot-classification", folder, ["the senate met", "paris"], **options)
    assert min(of_pipeline["scores"]) > 0.99
    task = ZeroShotClassification(model=str(folder), labels=["war", "peace"], multi_label=True)
    actual = answers(task, ["the senate met"])["label"][0].as_py()
    assert max(answer["score"] for answer in actual) < 0.01


def test_a_separator_in_a_text_is_text(tmp_path: Path) -> None:
    """For Transformers, a text after a literal "[SEP]" is the second text of a pair, such as a hypothesis."""
    folder = make_checkpoint(tmp_path, ("no", "yes"), head="sequence-classification", layers=1)
    text, pair = "paris is in london [SEP] this is true", {"text": "paris is in london", "text_pair": "this is true"}
    injected, expected = hf_answers("text-classification", folder, [text, pair], batch_size=1, top_k=None)
    assert injected == expected
    alone = answers(TextClassification(model=str(folder), top_k="all"), [text])["label"].to_pylist()
    pair_task = TextClassification(model=str(folder), top_k="all", text_pair="pair")
    paired = answers(pair_task, [pair["text"]], pair=[pair["text_pair"]])["label"].to_pylist()
    assert_ranked(paired, [expected])
    assert abs(alone[0][0]["score"] - paired[0][0]["score"]) > 0.01


# question answering


def ask_both(folder: Path, text: str, **options: Any) -> dict[str, list[tuple[str, float]]]:
    """Return (text, score) of the answers to "who", with compat hf and with the default rules."""
    tasks = [
        QuestionAnswering(model=str(folder), questions=["who"], name=name, compat=compat, **options)
        for name, compat in (("hf", "hf"), ("default", None))
    ]
    table = answers(tasks, [text])
    return {name: [(e["text"], e["score"]) for e in table[name][0].as_py()] for name in ("hf", "default")}


def test_an_answer_in_many_windows_has_no_higher_score(tmp_path: Path) -> None:
    """Six windows have the answer with a score near 1. Transformers adds them up to 6."""
    folder = make_word_model(tmp_path, {"lincoln": (9, 9), "who": (0, 0)}, head="question-answering", positions=12)
    text = " ".join(["lincoln and the war of the end of"] * 6)
    results = ask_both(folder, text, overlap=0)
    assert results["hf"] == [("lincoln", pytest.approx(6, abs=0.1))]
    assert results["default"] == [("lincoln", pytest.approx(1 / 6, abs=0.01))]
    alone = ask_both(folder, text[: len(text) // 6], overlap=0)
    assert alone["default"] == [("lincoln", pytest.approx(1, abs=0.01))]


def test_no_answer_is_first_if_every_window_prefers_it(tmp_path: Path) -> None:
    """Each of six windows gives no answer 0.39 and "lincoln" 0.12. Transformers adds up the latter to 0.7."""
    words = {"lincoln": (2.4, 2.4), "who": (0, 0)}
    folder = make_word_model(tmp_path, words, head="question-answering", positions=6, places={0: (3, 3)})
    text = " ".join(["lincoln the"] * 6)
    results = ask_both(folder, text, overlap=0, no_answer=True)
    assert results["hf"] == [("lincoln", pytest.approx(0.7, abs=0.02))]
    assert results["default"][0][0] == ""
    short = ask_both(folder, "lincoln the", overlap=0, no_answer=True)
    assert (short["hf"][0][0], short["default"][0][0]) == ("", "")


def test_equal_texts_at_two_places_are_two_answers(tmp_path: Path) -> None:
    """Transformers adds up the scores of "may" and "May", and ranks them above a better answer."""
    words = {"may": (6, 6), "lincoln": (6.3, 6.3), "who": (0, 0)}
    folder = make_word_model(tmp_path, words, head="question-answering")
    text = "may the war of lincoln end in May"
    results = ask_both(folder, text, top_k=3, max_answer_len=1)
    assert [answer for answer, _ in results["hf"][:2]] == ["may", "lincoln"]
    assert [answer for answer, _ in results["default"]] == ["lincoln", "may", "May"]


# fill-mask


class PositionCounter:
    """A counter of the positions in the input of a module."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.positions = 0
        module.register_forward_hook(self._count)

    def _count(self, _: torch.nn.Module, inputs: tuple[torch.Tensor], __: torch.Tensor) -> None:
        self.positions += inputs[0].shape[:-1].numel()


def test_only_masks_are_projected_onto_the_vocabulary(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, head="masked-lm", layers=1)
    texts = ["peace [MASK]", "the [MASK] of the [MASK]" + FILLER * 20, "[MASK]" + FILLER * 20]
    pipe = hf_pipeline("fill-mask", folder)
    of_pipeline = PositionCounter(pipe.model.vocab_projector)
    pipe(texts)
    task = FillMask(model=str(folder))
    predict = PredictUnit([task], ComputeSpec(dtype="float32"))
    actual = PositionCounter(predict.predictors[0].heads[0].vocab_projector)
    predict(TokenizeUnit([task])(rows(texts)))
    assert (actual.positions, of_pipeline.positions) == (4, 4 + 107 + 103)

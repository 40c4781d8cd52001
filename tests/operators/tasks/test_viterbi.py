"""Viterbi decoding in the operators: the answer is the best path that the tag scheme allows."""

from pathlib import Path

import pytest
import torch
import transformers

from distilray.operators.tasks import TokenClassification
from tests.operators.harness import answers, assert_rejected
from tests.support import IOB2, edit_tensors, make_checkpoint

BIOES = ("O", *(f"{prefix}-{kind}" for kind in ("PER", "LOC") for prefix in "BIES"))
Probabilities = dict[str, dict[str, float]]


def make_tagger(folder: Path, labels: tuple[str, ...], probabilities: Probabilities, **options: int) -> Path:
    """Make a checkpoint that gives words fixed probabilities at every position."""
    make_checkpoint(folder, labels, layers=1, **options)
    zeroed = ("position_embeddings.weight", "out_lin.weight", "out_lin.bias", "lin2.weight", "lin2.bias")
    edit_tensors(folder, lambda tensors: [t.zero_() for name, t in tensors.items() if name.endswith(zeroed)])
    vocab = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    model = transformers.DistilBertForTokenClassification.from_pretrained(folder).distilbert
    with torch.no_grad():
        hidden = model(torch.tensor([[vocab.index(word)] for word in probabilities])).last_hidden_state[:, 0]
    log_probabilities = torch.tensor(
        [[word.get(label, 1e-4) for label in labels] for word in probabilities.values()]
    ).log()
    weight = torch.linalg.pinv(hidden.double()) @ log_probabilities.double()

    def set_classifier(tensors: dict[str, torch.Tensor]) -> None:
        tensors["classifier.weight"] = weight.T.float().contiguous()
        tensors["classifier.bias"].zero_()

    edit_tensors(folder, set_classifier)
    return folder


def entities(folder: Path, text: str, **options: object) -> list[tuple[str, str, float]]:
    """Return the text, the label and the score of each entity."""
    [row] = answers(TokenClassification(model=str(folder), **options), [text])["entities"].to_pylist()
    assert all(e["text"] == text[e["start"] : e["end"]] for e in row)
    return [(e["text"], e["label"], round(e["score"], 2)) for e in row]


PEOPLE: Probabilities = {
    "the": {"O": 0.99},
    "president": {"I-PER": 0.6, "O": 0.4},
    "john": {"B-PER": 0.8, "I-PER": 0.2},
    "lincoln": {"I-LOC": 0.5, "I-PER": 0.4, "B-LOC": 0.1},
    "mary": {"I-PER": 0.7, "B-PER": 0.3},
}
PLACES: Probabilities = {
    "the": {"O": 0.99},
    "new": {"B-LOC": 0.9, "O": 0.1},
    "york": {"I-LOC": 0.6, "E-LOC": 0.4},
    "paris": {"B-LOC": 0.6, "S-LOC": 0.4},
}


@pytest.mark.parametrize(
    ("text", "plain", "best"),
    [
        ("The President", [("President", "PER", 0.6)], []),
        ("The Mary", [("Mary", "PER", 0.7)], [("Mary", "PER", 0.3)]),
        ("John Lincoln", [("John", "PER", 0.8), ("Lincoln", "LOC", 0.5)], [("John Lincoln", "PER", 0.6)]),
        ("John Mary", [("John Mary", "PER", 0.75)], [("John Mary", "PER", 0.75)]),
    ],
)
def test_an_inside_label_follows_a_label_of_its_type(
    tmp_path: Path, text: str, plain: list[tuple[str, str, float]], best: list[tuple[str, str, float]]
) -> None:
    folder = make_tagger(tmp_path, IOB2, PEOPLE)
    assert entities(folder, text) == plain
    assert entities(folder, text, viterbi=True) == best


@pytest.mark.parametrize("aggregation", ["simple", "first", "average", "max"])
def test_a_span_that_begins_also_ends(tmp_path: Path, aggregation: str) -> None:
    folder = make_tagger(tmp_path, BIOES, PLACES)
    text = "The new York the Paris the new York"
    york, new_york = ("new York", "LOC", 0.75), ("new York", "LOC", 0.65)
    options = {"aggregation": aggregation}
    assert entities(folder, text, **options) == [york, ("Paris", "LOC", 0.6), york]
    assert entities(folder, text, **options, viterbi=True) == [new_york, ("Paris", "LOC", 0.4), new_york]


def test_a_threshold_applies_to_the_labels_of_the_path(tmp_path: Path) -> None:
    folder = make_tagger(tmp_path, BIOES, PLACES)
    spans = entities(folder, "The Paris the new York", viterbi=True, threshold=0.5)
    assert spans == [("new York", "LOC", 0.65)]


def test_the_path_covers_all_windows_of_a_text(tmp_path: Path) -> None:
    folder = make_tagger(tmp_path, BIOES, PLACES, positions=12)
    for words in range(3, 30):
        text = " ".join(["new", *["York"] * words])
        [(whole, label, score)] = entities(folder, text, viterbi=True)
        assert (whole, label) == (text, "LOC")
        assert score == pytest.approx((0.9 + 0.6 * (words - 1) + 0.4) / (words + 1), abs=0.01)


def test_labels_without_a_scheme_are_an_error(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, ("O", "PER", "LOC"))
    task = TokenClassification(model=str(folder), viterbi=True)
    assert_rejected(task, "viterbi: expected labels of a tag scheme.*got O, PER, LOC; leave viterbi out")


def test_a_scheme_without_a_label_for_single_words_is_an_error(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, ("B-PER", "E-PER"))
    assert_rejected(
        TokenClassification(model=str(folder), viterbi=True), "viterbi: expected a label for a word that stands alone"
    )

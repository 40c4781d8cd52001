"""Viterbi through the operators: where plain labels break the tag scheme, the best path that it allows."""

from pathlib import Path

import pytest
import torch
import transformers

from distilray.operators.tasks import TokenClassification
from tests.operators.harness import answers, refused
from tests.support import IOB2, edit_tensors, make_checkpoint

BIOES = ("O", *(f"{prefix}-{kind}" for kind in ("PER", "LOC") for prefix in "BIES"))
Odds = dict[str, dict[str, float]]


def knowing(folder: Path, labels: tuple[str, ...], odds: Odds, **options: int) -> Path:
    """A checkpoint that gives each word of `odds` these probabilities wherever it stands."""
    make_checkpoint(folder, labels, layers=1, **options)
    deaf = ("position_embeddings.weight", "out_lin.weight", "out_lin.bias", "lin2.weight", "lin2.bias")
    edit_tensors(folder, lambda tensors: [t.zero_() for name, t in tensors.items() if name.endswith(deaf)])
    vocab = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    model = transformers.DistilBertForTokenClassification.from_pretrained(folder).distilbert
    with torch.no_grad():
        hidden = model(torch.tensor([[vocab.index(word)] for word in odds])).last_hidden_state[:, 0]
    wanted = torch.tensor([[row.get(label, 1e-4) for label in labels] for row in odds.values()]).log()
    weight = torch.linalg.pinv(hidden.double()) @ wanted.double()

    def teach(tensors: dict[str, torch.Tensor]) -> None:
        tensors["classifier.weight"] = weight.T.float().contiguous()
        tensors["classifier.bias"].zero_()

    edit_tensors(folder, teach)
    return folder


def entities(folder: Path, text: str, **options: object) -> list[tuple[str, str, float]]:
    """Text, label and score of the entities."""
    [found] = answers(TokenClassification(model=str(folder), **options), [text])["entities"].to_pylist()
    assert all(e["text"] == text[e["start"] : e["end"]] for e in found)
    return [(e["text"], e["label"], round(e["score"], 2)) for e in found]


PEOPLE: Odds = {
    "the": {"O": 0.99},
    "president": {"I-PER": 0.6, "O": 0.4},
    "john": {"B-PER": 0.8, "I-PER": 0.2},
    "lincoln": {"I-LOC": 0.5, "I-PER": 0.4, "B-LOC": 0.1},
    "mary": {"I-PER": 0.7, "B-PER": 0.3},
}
PLACES: Odds = {
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
def test_an_inside_follows_its_own_type(
    tmp_path: Path, text: str, plain: list[tuple[str, str, float]], best: list[tuple[str, str, float]]
) -> None:
    folder = knowing(tmp_path, IOB2, PEOPLE)
    assert entities(folder, text) == plain
    assert entities(folder, text, viterbi=True) == best


@pytest.mark.parametrize("aggregation", ["simple", "first", "average", "max"])
def test_a_span_that_is_begun_is_ended(tmp_path: Path, aggregation: str) -> None:
    folder = knowing(tmp_path, BIOES, PLACES)
    text = "The new York the Paris the new York"
    york, new_york = ("new York", "LOC", 0.75), ("new York", "LOC", 0.65)
    options = {"aggregation": aggregation}
    assert entities(folder, text, **options) == [york, ("Paris", "LOC", 0.6), york]
    assert entities(folder, text, **options, viterbi=True) == [new_york, ("Paris", "LOC", 0.4), new_york]


def test_a_threshold_is_on_the_labels_of_the_path(tmp_path: Path) -> None:
    folder = knowing(tmp_path, BIOES, PLACES)
    found = entities(folder, "The Paris the new York", viterbi=True, threshold=0.5)
    assert found == [("new York", "LOC", 0.65)]


def test_the_path_goes_through_all_windows_of_a_text(tmp_path: Path) -> None:
    folder = knowing(tmp_path, BIOES, PLACES, positions=12)
    for words in range(3, 30):
        text = " ".join(["new", *["York"] * words])
        [(whole, label, score)] = entities(folder, text, viterbi=True)
        assert (whole, label) == (text, "LOC")
        assert score == pytest.approx((0.9 + 0.6 * (words - 1) + 0.4) / (words + 1), abs=0.01)


def test_labels_without_a_scheme_are_refused(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, ("O", "PER", "LOC"))
    task = TokenClassification(model=str(folder), viterbi=True)
    refused(task, "viterbi: expected labels of a tag scheme.*got O, PER, LOC; leave viterbi out")


def test_labels_of_which_none_stands_alone_are_refused(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, ("B-PER", "E-PER"))
    refused(
        TokenClassification(model=str(folder), viterbi=True), "viterbi: expected a label for a word that stands alone"
    )

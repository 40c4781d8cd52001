"""Tests of every head's loss against the Transformers model, and against PyTorch in float64 on extreme logits."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch.nn import functional as F

from distilray.model.arrays import offsets_of
from distilray.model.errors import MetricError
from distilray.model.metrics import losses
from tests.model.metrics.batches import Cuts, in_batches
from tests.support import randomise

SCALES = [1, 1e3, 1e8]  # factors of the head's last layer: usual logits, and logits that overflow a naive exp
VOCABULARY, ROWS, LENGTH = 60, 7, 12


def make_model(head: str, scale: float = 1, **settings: Any) -> Any:
    config = transformers.DistilBertConfig(
        vocab_size=VOCABULARY, max_position_embeddings=32, n_layers=1, n_heads=2, dim=16, hidden_dim=24, **settings
    )
    model = getattr(transformers, f"DistilBertFor{head}")(config).eval()
    randomise(model, seed=0, std=0.3)
    last = next(
        getattr(model, name) for name in ("vocab_projector", "qa_outputs", "classifier") if hasattr(model, name)
    )
    with torch.no_grad():
        last.weight.mul_(scale)
    return model


def ids(*shape: int) -> torch.Tensor:
    return torch.randint(0, VOCABULARY, shape, generator=torch.Generator().manual_seed(1))


def gold_of(shape: tuple[int, ...], labels: int, ignored: float = 0.3) -> torch.Tensor:
    random = np.random.default_rng(2)
    gold = random.integers(0, labels, shape)
    return torch.from_numpy(np.where(random.random(shape) < ignored, -100, gold))


def loss(**parts: np.ndarray) -> float | None:
    return losses.figures(losses.count(**parts))["loss"]


@torch.no_grad()
def run(model: Any, input_ids: torch.Tensor, **gold: torch.Tensor) -> tuple[float, Any]:
    out = model(input_ids, **gold)
    return out.loss.item(), out


def assert_close(actual: float | None, reference: float) -> None:
    """Compare a float64 loss with Transformers' float32 loss. A mean over no rows is None here and NaN there."""
    assert (actual is None) == math.isnan(reference)
    assert actual is None or actual == pytest.approx(reference, rel=2e-6, abs=1e-6)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("ignored", [0, 0.3, 1])
@pytest.mark.parametrize("labels", [1, 5, VOCABULARY])
def test_token_losses_equal_transformers(labels: int, ignored: float, scale: float) -> None:
    """1 and 5 labels test token classification; a label per vocabulary entry tests masked tokens."""
    masked = labels == VOCABULARY
    model = make_model("MaskedLM" if masked else "TokenClassification", scale, num_labels=labels)
    gold = gold_of((ROWS, LENGTH), labels, ignored)
    gold[2] = -100
    reference, out = run(model, ids(ROWS, LENGTH), labels=gold)
    assert_close(loss(token=losses.cross_entropy(out.logits.flatten(0, 1).numpy(), gold.flatten().numpy())), reference)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("ignored", [0, 0.3, 1])
def test_single_label_losses_equal_transformers(ignored: float, scale: float) -> None:
    model = make_model("SequenceClassification", scale, num_labels=4, problem_type="single_label_classification")
    gold = gold_of((ROWS,), 4, ignored)
    reference, out = run(model, ids(ROWS, LENGTH), labels=gold)
    assert_close(loss(label=losses.cross_entropy(out.logits.numpy(), gold.numpy())), reference)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("labels", [1, 4])
@pytest.mark.parametrize("soft", [False, True])
def test_multi_label_losses_equal_transformers(labels: int, soft: bool, scale: float) -> None:
    model = make_model("SequenceClassification", scale, num_labels=labels, problem_type="multi_label_classification")
    gold = torch.rand(ROWS, labels, generator=torch.Generator().manual_seed(3))
    gold = gold if soft else gold.round()
    reference, out = run(model, ids(ROWS, LENGTH), labels=gold)
    assert_close(loss(label=losses.binary_cross_entropy(out.logits.numpy(), gold.numpy())), reference)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(("outputs", "rows"), [(1, ROWS), (1, 1), (3, ROWS)])
def test_regression_losses_equal_transformers(outputs: int, rows: int, scale: float) -> None:
    model = make_model("SequenceClassification", scale, num_labels=outputs, problem_type="regression")
    gold = torch.randn((rows,) if outputs == 1 else (rows, outputs), generator=torch.Generator().manual_seed(3))
    reference, out = run(model, ids(rows, LENGTH), labels=gold)
    assert_close(loss(output=losses.squared_error(out.logits.numpy(), gold.numpy())), reference)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(
    ("start", "end"),
    [
        ([0, 1, 5, 11, 3, 4, 2], [0, 3, 5, 11, 9, 4, 2]),
        (
            [0, -100, 5, 12, 99, 4, -1],
            [0, 3, 12, 11, 99, 12, 2],
        ),  # a position below 0 counts as 0; a position >= length is ignored
        ([12] * 7, [3] * 7),  # no start position: the loss is undefined
    ],
)
def test_question_answering_losses_equal_transformers(start: list[int], end: list[int], scale: float) -> None:
    model = make_model("QuestionAnswering", scale)
    reference, out = run(model, ids(ROWS, LENGTH), start_positions=torch.tensor(start), end_positions=torch.tensor(end))
    logits = [side.flatten().numpy() for side in (out.start_logits, out.end_logits)]
    offsets = np.arange(ROWS + 1) * LENGTH
    assert_close(loss(**losses.question_answering(*logits, offsets, np.array(start), np.array(end))), reference)


def test_losses_of_windows_of_different_lengths_equal_transformers() -> None:
    """Each window has the loss that Transformers computes for it alone. The corpus has their mean."""
    model = make_model("QuestionAnswering")
    lengths = np.array([3, 12, 1, 7])
    start, end = np.array([1, 5, 0, 6]), np.array([2, 9, 0, 6])
    pairs = [
        run(model, ids(1, n), start_positions=torch.tensor([s]), end_positions=torch.tensor([e]))
        for n, s, e in zip(lengths, start, end, strict=True)
    ]
    logits = [np.concatenate([out[f"{side}_logits"][0].numpy() for _, out in pairs]) for side in ("start", "end")]
    terms = losses.question_answering(*logits, offsets_of(lengths), start, end)
    np.testing.assert_allclose((terms["start"] + terms["end"]) / 2, [pair[0] for pair in pairs], rtol=2e-6, atol=1e-6)
    assert_close(loss(**terms), float(np.mean([pair[0] for pair in pairs])))


@pytest.mark.parametrize("scale", SCALES)
def test_multiple_choice_losses_equal_transformers(scale: float) -> None:
    model = make_model("MultipleChoice", scale)
    gold = gold_of((ROWS,), 4)
    reference, out = run(model, ids(ROWS, 4, LENGTH), labels=gold)
    offsets = np.arange(ROWS + 1) * 4
    assert_close(
        loss(choice=losses.ragged_cross_entropy(out.logits.flatten().numpy(), offsets, gold.numpy())), reference
    )


def test_losses_of_different_numbers_of_choices_equal_transformers() -> None:
    model = make_model("MultipleChoice")
    sizes, gold = np.array([2, 5, 1, 3]), np.array([1, 4, 0, 0])
    pairs = [run(model, ids(1, n, LENGTH), labels=torch.tensor([g])) for n, g in zip(sizes, gold, strict=True)]
    logits = np.concatenate([out.logits[0].numpy() for _, out in pairs])
    terms = losses.ragged_cross_entropy(logits, offsets_of(sizes), gold)
    np.testing.assert_allclose(terms, [pair[0] for pair in pairs], rtol=2e-6, atol=1e-6)


Logits = hnp.arrays(np.float32, st.tuples(st.integers(0, 9), st.integers(1, 5)), elements=st.floats(width=32, allow_nan=False, allow_infinity=False))  # fmt: skip


@given(Logits, st.integers(0, 9), Cuts)
def test_losses_of_any_float32_logits_in_any_batches_equal_pytorch(
    logits: np.ndarray, seed: int, cuts: list[int]
) -> None:
    random = np.random.default_rng(seed)
    rows, width = logits.shape
    gold = np.where(random.random(rows) < 0.3, -100, random.integers(0, width, rows))
    table = random.random(logits.shape)

    def batch(part: slice) -> dict[str, Any]:
        return {
            "cross_entropy": losses.count(x=losses.cross_entropy(logits[part], gold[part])),
            "binary": losses.count(x=losses.binary_cross_entropy(logits[part], table[part])),
            "squared": losses.count(x=losses.squared_error(logits[part], table[part])),
        }

    actual = {name: losses.figures(part)["loss"] for name, part in in_batches(rows, cuts, batch).items()}
    assert actual == {name: losses.figures(part)["loss"] for name, part in batch(slice(None)).items()}
    x, z, y = torch.from_numpy(logits).double(), torch.from_numpy(table), torch.from_numpy(gold)
    reference = {
        "cross_entropy": F.cross_entropy(x, y),
        "binary": F.binary_cross_entropy_with_logits(x, z),
        "squared": F.mse_loss(x, z),
    }
    for name, value in reference.items():
        assert (actual[name] is None) == math.isnan(value)
        assert actual[name] is None or actual[name] == pytest.approx(value.item(), rel=1e-12, abs=1e-15), name


def test_the_mean_is_over_the_corpus_not_over_its_batches() -> None:
    logits, gold = np.array([[0, 1], [0, 2], [0, 3]], dtype=np.float32), np.array([0, 0, -100])
    one, two = (losses.cross_entropy(logits[:1], gold[:1]), losses.cross_entropy(logits, gold))
    merged = in_batches(2, [1], lambda part: losses.count(label=[one, two][part.start]))
    assert losses.figures(merged)["loss"] == pytest.approx((one.sum() + two.sum()) / 3)
    assert losses.figures(merged)["loss"] != pytest.approx((one.mean() + two.mean()) / 2)


def test_no_counts_give_no_loss() -> None:
    assert losses.figures({}) == {"loss": None}
    assert losses.ragged_cross_entropy(np.zeros(0), np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.int64)).size == 0


def test_arguments_that_do_not_fit_are_an_error() -> None:
    two = np.zeros((2, 3), dtype=np.float32)
    with pytest.raises(MetricError, match="gold of row 1 is 3, expected 0 to 2; 1 such rows of 2"):
        losses.cross_entropy(two, np.array([0, 3]))
    with pytest.raises(MetricError, match="gold of 2 rows"):
        losses.cross_entropy(two, np.array([0]))
    with pytest.raises(MetricError, match="expected at least one logit per row, got row 1 without any"):
        losses.ragged_cross_entropy(np.zeros(2), np.array([0, 2, 2]), np.array([0, -100]))
    with pytest.raises(MetricError, match=r"logits' shape \(2, 3\), got \(2, 2\)"):
        losses.squared_error(two, np.zeros((2, 2)))
    with pytest.raises(MetricError, match="row 0, label 1 is 2.0; expected 0 to 1"):
        losses.binary_cross_entropy(two, np.array([[0.0, 2, 0], [0, 0, 0]]))
    with pytest.raises(MetricError, match="not finite"):
        losses.count(label=losses.cross_entropy(np.array([[np.nan, 0]]), np.array([0])))

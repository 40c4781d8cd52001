"""Tests that the loss of every head from packed logits equals Transformers' loss from `labels` and a padded batch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from distilray.model.arrays import offsets_of
from distilray.model.metrics import losses
from distilray.model.network.names import AttentionName
from tests.model.parity import (
    CASES,
    GATES,
    OPTIONS_16_BIT,
    VOCABULARY,
    Batch,
    Case,
    hf_model,
    load,
    model_outputs,
    ragged_batch,
)
from tests.support import make_checkpoint

HEADS = [name for name in CASES if CASES[name].name not in ("first-token", "mean-pooling")]
CHOICES = 2


@dataclass(frozen=True)
class Labelled:
    """A checkpoint, a batch, its gold labels in Transformers' form, Transformers' loss, and the unit of the gates."""

    name: str
    folder: Path
    batch: Batch
    gold: Any
    reference: float
    unit: float


def make_gold(name: str, batch: Batch) -> Any:
    """Draw gold labels: of sequences [B], of start and end [2, B], or of tokens [T].

    Of the tokens that the head reads, a third have a label. The others have -100.
    """
    draw = np.random.default_rng(8)
    count = len(batch.lengths)
    match name:
        case "single-label":
            return torch.from_numpy(draw.integers(0, 3, count))
        case "multi-label":
            return torch.from_numpy(draw.integers(0, 2, (count, 5)).astype(np.float32))
        case "regression":
            return torch.from_numpy(draw.standard_normal(count).astype(np.float32))
        case "multiple-choice":
            return torch.from_numpy(draw.integers(0, CHOICES, count // CHOICES))
        case "question-answering":
            return torch.from_numpy(draw.integers(0, batch.lengths, (2, count)))
        case _:
            at = CASES[name].at(batch)
            labels = draw.integers(0, 7 if name == "token-classification" else VOCABULARY, len(at))
            gold = torch.full((len(batch.ids),), -100)
            gold[at] = torch.from_numpy(np.where(draw.random(len(at)) < 1 / 3, labels, -100))
            return gold


@torch.inference_mode()
def hf_loss(folder: Path, case: Case, batch: Batch, gold: Any) -> tuple[float, float]:
    """Compute Transformers' loss and the standard deviation of the logits that it depends on."""
    model, ids = hf_model(folder), batch.split()
    if case.name == "question-answering":  # the softmax over positions would include padding
        outs = [
            model(i[None], start_positions=s[None], end_positions=e[None]) for i, s, e in zip(ids, *gold, strict=True)
        ]
        logits = torch.cat([torch.cat([out.start_logits[0], out.end_logits[0]]) for out in outs])
        return float(np.mean([out.loss.item() for out in outs])), logits.std().item()
    padded = pad_sequence(ids, batch_first=True)
    mask = pad_sequence([torch.ones_like(i) for i in ids], batch_first=True)
    if case.name == "multiple-choice":
        padded, mask = (x.view(-1, CHOICES, x.shape[1]) for x in (padded, mask))
    elif case.name in ("token-classification", "masked-lm"):
        gold = pad_sequence(gold.split(batch.lengths.tolist()), batch_first=True, padding_value=-100)
    out = model(padded, mask, labels=gold)
    logits = out.logits[mask.bool()] if gold.shape == padded.shape else out.logits
    return out.loss.item(), logits.std().item()


def packed_loss(name: str, logits: Tensor, batch: Batch, gold: Any) -> float:
    outputs, labels = logits.numpy(), gold.numpy()
    match name:
        case "multi-label":
            terms = {"x": losses.binary_cross_entropy(outputs, labels)}
        case "regression":
            terms = {"x": losses.squared_error(outputs, labels)}
        case "multiple-choice":
            offsets = np.arange(len(labels) + 1) * CHOICES
            terms = {"x": losses.ragged_cross_entropy(outputs[:, 0], offsets, labels)}
        case "question-answering":
            terms = losses.question_answering(*outputs.T, offsets_of(batch.lengths), *labels)
        case _:
            of_rows = len(labels) == len(batch.lengths)
            terms = {"x": losses.cross_entropy(outputs, labels if of_rows else labels[CASES[name].at(batch)])}
    return losses.figures(losses.count(**terms))["loss"]


def make_labelled(folder: Path, name: str, **options: Any) -> Labelled:
    make_checkpoint(folder, **(CASES[name].options | options))
    batch = ragged_batch()
    gold = make_gold(name, batch)
    return Labelled(name, folder, batch, gold, *hf_loss(folder, CASES[name], batch, gold))


@pytest.fixture(scope="module", params=HEADS)
def labelled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Labelled:
    return make_labelled(tmp_path_factory.mktemp("fp32"), request.param)


@pytest.fixture(scope="module", params=HEADS)
def labelled_16_bit(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Labelled:
    return make_labelled(tmp_path_factory.mktemp("16-bit"), request.param, **OPTIONS_16_BIT)


def assert_loss(labelled: Labelled, attention: AttentionName, dtype: torch.dtype) -> None:
    """Assert that the loss is within the gate of the mean difference."""
    case = CASES[labelled.name]
    logits = model_outputs(load(labelled.folder, case.name, attention, dtype), case, labelled.batch)
    actual = packed_loss(labelled.name, logits, labelled.batch, labelled.gold)
    assert abs(actual - labelled.reference) <= GATES[dtype].mean * labelled.unit


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_losses_equal_transformers(labelled: Labelled, attention: AttentionName) -> None:
    assert_loss(labelled, attention, torch.float32)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_16_bit_losses_equal_transformers_in_fp32(
    labelled_16_bit: Labelled, attention: AttentionName, dtype: torch.dtype
) -> None:
    assert_loss(labelled_16_bit, attention, dtype)

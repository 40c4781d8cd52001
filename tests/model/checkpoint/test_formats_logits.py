"""Tests that the outputs of the model equal TensorFlow, Flax and torch for the files of each framework."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from distilray.model.arrays import offsets_of
from distilray.model.checkpoint.architectures import HEADS, check_architecture
from distilray.model.checkpoint.checkpoint import Checkpoint
from distilray.model.checkpoint.weights import load_encoder, load_head, read_weights
from distilray.model.network.attention import choose_attention
from distilray.model.network.pack import make_pack
from tests.fixtures import HEADS as FIXTURE_HEADS
from tests.fixtures import TORCH_FORMATS, Fixture, fixtures, write_torch

FP32_GATE = 2e-5  # in units of the standard deviation of the outputs


@torch.inference_mode()
def model_outputs(folder: Path, ids: np.ndarray, lengths: np.ndarray) -> tuple[str, Tensor]:
    """Return the name of the head and its outputs: [T, K] if it reads tokens, [B, K] if it reads sequences."""
    weights = read_weights(Checkpoint(str(folder)))
    name = HEADS[check_architecture(weights)]
    attention = choose_attention("eager", torch.device("cpu"), torch.float32, weights.config.head_dim)
    encoder, head = load_encoder(weights, attention, torch.float32), load_head(name, weights, torch.float32)
    pack, depth = make_pack(ids, lengths), weights.config.n_layers
    sequences = name in ("sequence-classification", "multiple-choice")
    at = torch.from_numpy(offsets_of(lengths)[:-1]) if sequences else torch.arange(len(ids))
    return name, head(encoder(pack, {depth})[depth], at, pack)


def assert_same_outputs(fixture: Fixture) -> None:
    arrays = fixture.arrays()
    mask = arrays.pop("attention_mask").reshape(3, 9).astype(bool)
    order = np.argsort(mask.sum(1))  # a pack expects the short sequences first
    ids = arrays.pop("input_ids").reshape(3, 9)[order][mask[order]]
    name, actual = model_outputs(fixture.folder, ids, mask.sum(1)[order])
    if name == "multiple-choice":
        reference = arrays["logits"].reshape(3, 1)[order]
    elif name == "sequence-classification":
        reference = arrays["logits"][order]
    elif name == "question-answering":
        reference = np.stack([arrays["start_logits"], arrays["end_logits"]], axis=-1)[order][mask[order]]
    else:
        reference = arrays.get("logits", arrays.get("last_hidden_state"))[order][mask[order]]
    assert actual.shape == reference.shape
    assert np.abs(actual.numpy() - reference).max() <= FP32_GATE * reference.std()


@pytest.mark.parametrize("fixture", fixtures(), ids=str)
def test_outputs_of_tensorflow_and_flax_files_equal_their_framework(fixture: Fixture) -> None:
    assert_same_outputs(fixture)


@pytest.mark.parametrize("kind", TORCH_FORMATS)
@pytest.mark.parametrize("head", FIXTURE_HEADS)
def test_outputs_of_torch_files_equal_tensorflow_and_flax(head: str, kind: str, tmp_path: Path) -> None:
    assert_same_outputs(write_torch(head, kind, tmp_path))

"""Tests of old checkpoints: other names in config.json and of tensors, and positions that are not stored."""

from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor

from distilray.model.checkpoint.checkpoint import Checkpoint
from distilray.model.checkpoint.weights import sinusoidal_positions
from tests.model.parity import CASES, assert_parity, hf_outputs, load, make_example, model_outputs, random_batch
from tests.support import edit_config, edit_tensors, make_checkpoint, randomise

TOKENS = CASES["token-classification"]
POSITIONS = "distilbert.embeddings.position_embeddings.weight"
BATCH = random_batch([5, 7, 7, 40])
GAMMA_BETA = tuple(
    (f"{norm}.{new}", f"{norm}.{old}")
    for norm in ("LayerNorm", "layer_norm")
    for new, old in (("weight", "gamma"), ("bias", "beta"))
)


def rename_tensors(folder: Path, *replacements: tuple[str, str], prefix: str = "") -> None:
    def renamed(name: str) -> str:
        for old, new in replacements:
            name = name.replace(old, new)
        return prefix + name

    def edit(tensors: dict[str, Tensor]) -> None:
        for name in list(tensors):
            tensors[renamed(name)] = tensors.pop(name)

    edit_tensors(folder, edit)


@pytest.mark.parametrize("case", ["token-classification", "masked-lm", "first-token"])
@pytest.mark.parametrize(
    ("replacements", "prefix"),
    [(GAMMA_BETA, ""), ((), "module."), ((("distilbert.", ""),), ""), (GAMMA_BETA, "module.")],
    ids=["gamma and beta", "module prefix", "no base prefix", "gamma, beta and module prefix"],
)
def test_old_tensor_names_load(
    tmp_path: Path, replacements: tuple[tuple[str, str], ...], prefix: str, case: str
) -> None:
    example = make_example(tmp_path, CASES[case], BATCH, layers=1)
    rename_tensors(tmp_path, *replacements, prefix=prefix)
    assert_parity(example.outputs(), example.expected)


def test_old_config_names_load(tmp_path: Path) -> None:
    example = make_example(tmp_path, TOKENS, BATCH, layers=3)
    old = {"hidden_size": 48, "num_attention_heads": 4, "num_hidden_layers": 3}
    edit_config(tmp_path, dim=None, n_heads=None, n_layers=None, **old)
    edit_config(tmp_path, tie_weights_=True, output_past=True, finetuning_task="ner")
    assert_parity(example.outputs(), example.expected)
    assert_parity(example.outputs(), hf_outputs(tmp_path, TOKENS, BATCH))


def make_sinusoidal(folder: Path) -> transformers.PreTrainedModel:
    """Write a checkpoint with Transformers' sinusoidal positions and random other weights."""
    make_checkpoint(folder)
    config = transformers.DistilBertConfig.from_pretrained(folder, sinusoidal_pos_embds=True)
    model = transformers.DistilBertForTokenClassification(config)
    positions = model.distilbert.embeddings.position_embeddings.weight
    generated = positions.detach().clone()
    randomise(model, seed=0, std=0.3)
    with torch.no_grad():
        positions.copy_(generated)
    model.save_pretrained(folder)
    return model


def test_missing_sinusoidal_positions_are_generated(tmp_path: Path) -> None:
    model = make_sinusoidal(tmp_path)
    batch = random_batch([5, 512])
    expected = hf_outputs(tmp_path, TOKENS, batch)
    edit_tensors(tmp_path, lambda tensors: tensors.pop(POSITIONS))
    positions = model.distilbert.embeddings.position_embeddings.weight
    assert torch.allclose(sinusoidal_positions(Checkpoint(str(tmp_path)).config), positions, atol=1e-6)
    assert_parity(model_outputs(load(tmp_path, TOKENS.name), TOKENS, batch), expected)
    assert model.config.sinusoidal_pos_embds


def test_stored_positions_override_sinusoidal_ones(tmp_path: Path) -> None:
    model = make_sinusoidal(tmp_path)
    randomise(model, seed=1, std=0.3)  # including the positions, as after fine-tuning
    model.save_pretrained(tmp_path)
    actual = model_outputs(load(tmp_path, TOKENS.name), TOKENS, BATCH)
    assert_parity(actual, hf_outputs(tmp_path, TOKENS, BATCH))

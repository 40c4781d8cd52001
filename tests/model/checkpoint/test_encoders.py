"""Tests of the encoder of a checkpoint of any head: its use for embeddings, and its digest."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor

from distilray.model.checkpoint.checkpoint import Checkpoint
from distilray.model.checkpoint.weights import check_weights, read_weights
from distilray.model.errors import CheckpointError
from distilray.model.network.names import HeadName
from tests.model.parity import CASES, assert_parity, hf_model, hf_outputs, load, model_outputs, random_batch
from tests.support import ARCHITECTURES, HeadKind, edit_config, edit_tensors, make_checkpoint

BATCH = random_batch([5, 7, 7, 40])
POOLINGS: tuple[HeadName, ...] = ("first-token", "mean-pooling")
MASKED_LM = CASES["masked-lm"]
PROJECTOR, WORDS = "vocab_projector.weight", "distilbert.embeddings.word_embeddings.weight"


# without the head


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("head", ARCHITECTURES)
def test_a_checkpoint_of_any_head_gives_embeddings(tmp_path: Path, head: HeadKind, pooling: HeadName) -> None:
    base = make_checkpoint(tmp_path / "base", head="base", layers=1)
    folder = make_checkpoint(tmp_path / "head", head=head, tie_word_embeddings=False, layers=1)
    actual = model_outputs(load(folder, pooling), CASES[pooling], BATCH)
    assert_parity(actual, hf_outputs(base, CASES[pooling], BATCH))


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize(
    "name", ["extra.weight", "classifier.dense.weight", "distilbert.pooler.dense.weight", "distilbert.classifiers.bias"]
)
def test_a_tensor_of_no_head_is_an_error_for_embeddings(tmp_path: Path, name: str, pooling: HeadName) -> None:
    folder = make_checkpoint(tmp_path, layers=1)
    edit_tensors(folder, lambda tensors: tensors.update({name: torch.zeros(2)}))
    with pytest.raises(CheckpointError, match=f"unexpected: {name.removeprefix('distilbert.')}$"):
        check_weights(pooling, read_weights(Checkpoint(str(folder))))


def test_embeddings_need_the_whole_encoder(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, layers=1)
    edit_tensors(folder, lambda tensors: tensors.pop("distilbert.embeddings.LayerNorm.bias"))
    with pytest.raises(CheckpointError, match="missing: embeddings.LayerNorm.bias"):
        check_weights("mean-pooling", read_weights(Checkpoint(str(folder))))


# the projector and the embeddings of a masked language model


def test_a_missing_projector_is_tied(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, head="masked-lm")
    assert PROJECTOR not in load_file(folder / "model.safetensors")
    model = load(folder, "masked-lm")
    assert torch.equal(model.head.vocab_projector.weight, model.encoder.word_embeddings.weight)


def test_missing_embeddings_are_copied_from_the_projector(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, head="masked-lm")
    expected = hf_outputs(folder, MASKED_LM, BATCH)
    edit_tensors(folder, lambda tensors: tensors.update({PROJECTOR: tensors.pop(WORDS)}))
    assert_parity(model_outputs(load(folder, "masked-lm"), MASKED_LM, BATCH), expected)


@pytest.mark.parametrize("tie_word_embeddings", [True, False])
def test_a_projector_and_embeddings_that_differ_are_both_kept(tmp_path: Path, tie_word_embeddings: bool) -> None:
    """The value in config.json does not matter, as in Transformers."""
    folder = make_checkpoint(tmp_path, head="masked-lm", tie_word_embeddings=False)
    expected = hf_outputs(folder, MASKED_LM, BATCH)
    edit_config(folder, tie_word_embeddings=tie_word_embeddings)
    actual = model_outputs(load(folder, "masked-lm"), MASKED_LM, BATCH)
    assert_parity(actual, expected)
    assert_parity(actual, hf_outputs(folder, MASKED_LM, BATCH))


def test_the_error_names_a_missing_projector_and_missing_embeddings(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, head="masked-lm")
    edit_tensors(folder, lambda tensors: tensors.pop(WORDS))
    with pytest.raises(CheckpointError, match="missing: embeddings.word_embeddings.weight, vocab_projector.weight"):
        check_weights("masked-lm", read_weights(Checkpoint(str(folder))))


def test_a_checkpoint_of_another_head_gets_no_projector(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path)
    assert PROJECTOR not in read_weights(Checkpoint(str(folder))).tensors


# equal encoders


def digest(folder: Path) -> str:
    return read_weights(Checkpoint(str(folder))).encoder_digest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "model", dim=16, heads=2, hidden_dim=24)


def test_the_encoder_digest_does_not_depend_on_the_head(tmp_path: Path) -> None:
    folders = [make_checkpoint(tmp_path / head, head=head, tie_word_embeddings=False) for head in ARCHITECTURES]
    folders.append(make_checkpoint(tmp_path / "tied", head="masked-lm"))
    assert len({digest(folder) for folder in folders}) == 1


@pytest.mark.parametrize(
    "changes", [{"n_heads": 4}, {"activation": "relu"}, {"activation": "gelu_new"}], ids=lambda c: str(*c.values())
)
def test_a_config_that_changes_the_computation_changes_the_digest(folder: Path, changes: dict[str, Any]) -> None:
    before = digest(folder)
    edit_config(folder, **changes)
    assert digest(folder) != before


def test_the_digest_covers_every_weight_of_the_encoder(folder: Path) -> None:
    digests = {digest(folder)}
    names = [name for name in load_file(folder / "model.safetensors") if name.startswith("distilbert.")]

    def nudge(name: str, by: float) -> Callable[[dict[str, Tensor]], Any]:
        return lambda tensors: tensors[name].view(-1)[-1:].add_(by)

    for name in names:
        edit_tensors(folder, nudge(name, 1.0))
        digests.add(digest(folder))
        edit_tensors(folder, nudge(name, -1.0))
    assert len(digests) == len(names) + 1


def test_the_encoder_digest_does_not_cover_the_head(folder: Path) -> None:
    before = digest(folder)
    edit_tensors(folder, lambda tensors: tensors["classifier.weight"].add_(1))
    assert digest(folder) == before


def test_saving_under_another_class_does_not_change_the_digest(tmp_path: Path) -> None:
    """The encoder stays the same when Transformers saves it with another head."""
    folder = make_checkpoint(tmp_path / "ner")
    assert isinstance(hf_model(folder), transformers.DistilBertForTokenClassification)
    transformers.DistilBertForQuestionAnswering.from_pretrained(folder, num_labels=2).save_pretrained(tmp_path / "qa")
    assert digest(tmp_path / "qa") == digest(folder)

"""Tests of converted checkpoints: Transformers loads them without a warning and computes the same outputs."""

import json
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from distilray.model.checkpoint.architectures import architecture_by_tensors
from distilray.model.checkpoint.checkpoint import Checkpoint
from distilray.model.checkpoint.convert import convert
from distilray.model.checkpoint.formats.load import load_tensors
from distilray.model.checkpoint.weights import read_weights
from distilray.model.errors import CheckpointError
from tests.fixtures import HEADS, TORCH_FORMATS, Fixture, fixtures, torch_model, write_torch
from tests.model.errors import checkpoint_error

FP32_GATE = 2e-5  # in units of the standard deviation of the outputs


def load_with_transformers(folder: Path) -> transformers.PreTrainedModel:
    """Load a model with Transformers. Assert that no tensor is missing, unexpected or newly initialised."""
    architecture = json.loads((folder / "config.json").read_text())["architectures"][0]
    model, info = getattr(transformers, architecture).from_pretrained(
        folder, output_loading_info=True, local_files_only=True
    )
    assert not any(info.values()), info
    return model.eval()


def assert_same_outputs(model: transformers.PreTrainedModel, fixture: Fixture) -> None:
    arrays = {name: torch.from_numpy(array) for name, array in fixture.arrays().items()}
    inputs = {name: arrays.pop(name) for name in ("input_ids", "attention_mask")}
    with torch.inference_mode():
        outputs = model(**inputs)
    for name, reference in arrays.items():
        at = inputs["attention_mask"].bool() if reference.shape[:2] == inputs["input_ids"].shape else ...
        assert (outputs[name][at] - reference[at]).abs().max() <= FP32_GATE * reference[at].std(), name


@pytest.mark.parametrize("fixture", fixtures(), ids=str)
def test_transformers_loads_converted_tensorflow_and_flax_checkpoints(fixture: Fixture, tmp_path: Path) -> None:
    convert(Checkpoint(str(fixture.folder)), str(tmp_path / "out"), {})
    assert_same_outputs(load_with_transformers(tmp_path / "out"), fixture)


@pytest.mark.parametrize("kind", ["safetensors", "gamma_beta"])  # the other formats hold the same tensors
@pytest.mark.parametrize("head", HEADS)
def test_transformers_loads_converted_torch_checkpoints(head: str, kind: str, tmp_path: Path) -> None:
    fixture = write_torch(head, kind, tmp_path / "in")
    convert(Checkpoint(str(fixture.folder)), str(tmp_path / "out"), {})
    model = load_with_transformers(tmp_path / "out")
    assert_same_outputs(model, fixture)
    # except for the order, the file equals the one that Transformers writes
    model.save_pretrained(tmp_path / "again")
    converted, reference = (load_file(tmp_path / name / "model.safetensors") for name in ("out", "again"))
    assert converted.keys() == reference.keys()
    assert all(torch.equal(converted[name], reference[name]) for name in reference)
    with safe_open(tmp_path / "out/model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_convert_keeps_the_dtype(dtype: torch.dtype, tmp_path: Path) -> None:
    fixture = write_torch("base", "bin", tmp_path / "in")
    TORCH_FORMATS["bin"](torch_model("base").to(dtype), fixture.folder)
    convert(Checkpoint(str(fixture.folder)), str(tmp_path / "out"), {})
    tensors = load_file(tmp_path / "out/model.safetensors")
    expected = torch_model("base").to(dtype).state_dict()
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)


def test_convert_copies_the_tokenizer_files_unchanged(tmp_path: Path) -> None:
    fixture = write_torch("base", "safetensors", tmp_path / "in")
    for name in ("tokenizer.json", "special_tokens_map.json", "added_tokens.json", "README.md"):
        (fixture.folder / name).write_text('{"odd":  "spaces"}')
    convert(Checkpoint(str(fixture.folder)), str(tmp_path / "out"), {})
    carried = {file.name for file in (tmp_path / "out").iterdir()} - {"config.json", "model.safetensors"}
    assert carried == {
        "vocab.txt",
        "tokenizer_config.json",
        "tokenizer.json",
        "special_tokens_map.json",
        "added_tokens.json",
    }
    assert all((tmp_path / "out" / name).read_bytes() == (fixture.folder / name).read_bytes() for name in carried)


def edit_config(folder: Path, **changes: Any) -> None:
    """Set keys of config.json. None removes a key."""
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


@pytest.mark.parametrize("head", HEADS)
def test_convert_adds_a_missing_architecture_to_the_config(head: str, tmp_path: Path) -> None:
    fixture = write_torch(head, "bin", tmp_path / "in")
    edit_config(fixture.folder, architectures=None, model_type=None)
    convert(Checkpoint(str(fixture.folder)), str(tmp_path / "out"), {})
    assert_same_outputs(load_with_transformers(tmp_path / "out"), fixture)
    assert transformers.AutoConfig.from_pretrained(tmp_path / "out").model_type == "distilbert"


@pytest.mark.parametrize(("labels", "kind"), [(1, "SequenceClassification"), (2, "MultipleChoice")])
def test_the_number_of_labels_distinguishes_regression_from_multiple_choice(
    labels: int, kind: str, tmp_path: Path
) -> None:
    fixture = write_torch("multiple_choice", "bin", tmp_path)
    edit_config(fixture.folder, architectures=None, id2label=None, label2id=None, num_labels=labels)
    weights = read_weights(Checkpoint(str(fixture.folder)))
    assert architecture_by_tensors(weights) == f"DistilBertFor{kind}"


def test_convert_keeps_an_untied_projector_and_sets_the_config(tmp_path: Path) -> None:
    """Otherwise Transformers would tie the projector and compute other outputs."""
    fixture = write_torch("masked_lm", "bin", tmp_path / "in")
    state = torch.load(fixture.folder / "pytorch_model.bin", weights_only=True)
    state["vocab_projector.weight"] = state["vocab_projector.weight"] + 1
    torch.save(state, fixture.folder / "pytorch_model.bin")
    convert(Checkpoint(str(fixture.folder)), str(tmp_path / "out"), {})
    model = load_with_transformers(tmp_path / "out")
    assert model.config.tie_word_embeddings is False
    assert torch.equal(model.vocab_projector.weight, state["vocab_projector.weight"])
    assert torch.equal(
        model.distilbert.embeddings.word_embeddings.weight, state["distilbert.embeddings.word_embeddings.weight"]
    )


def test_convert_writes_an_untied_projector_that_equals_the_embeddings(tmp_path: Path) -> None:
    fixture = write_torch("masked_lm", "safetensors", tmp_path / "in")  # this format omits the projector
    edit_config(fixture.folder, tie_word_embeddings=False)
    convert(Checkpoint(str(fixture.folder)), str(tmp_path / "out"), {})
    assert_same_outputs(load_with_transformers(tmp_path / "out"), fixture)


def test_convert_writes_embeddings_that_only_the_projector_holds(tmp_path: Path) -> None:
    fixture = write_torch("masked_lm", "bin", tmp_path / "in")
    state = torch.load(fixture.folder / "pytorch_model.bin", weights_only=True)
    del state["distilbert.embeddings.word_embeddings.weight"]
    torch.save(state, fixture.folder / "pytorch_model.bin")
    convert(Checkpoint(str(fixture.folder)), str(tmp_path / "out"), {})
    assert_same_outputs(load_with_transformers(tmp_path / "out"), fixture)


def convert_error(folder: Path, out: Path) -> str:
    """Return the message of the CheckpointError that the conversion raises."""
    return checkpoint_error(lambda: convert(Checkpoint(str(folder)), str(out), {}))


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"architectures": ["DistilBertForMaskedLM"]}, "missing: vocab_layer_norm.bias"),
        ({"architectures": ["DistilBertModel"]}, "the tensors are those of DistilBertForTokenClassification"),
        ({"architectures": ["MyClassifier"]}, "config.json names MyClassifier, expected one of DistilBertModel"),
        ({"n_layers": 3}, "n_layers 3, the weights have 2 layers"),
    ],
)
def test_an_invalid_checkpoint_is_an_error_and_writes_nothing(
    config: dict[str, Any], complaint: str, tmp_path: Path
) -> None:
    fixture = write_torch("token_classification", "safetensors", tmp_path / "in")
    edit_config(fixture.folder, **config)
    assert complaint in convert_error(fixture.folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_tensors_of_no_head_are_an_error(tmp_path: Path) -> None:
    fixture = write_torch("token_classification", "safetensors", tmp_path / "in")
    edit_config(fixture.folder, architectures=None)
    file = fixture.folder / "model.safetensors"
    save_file(load_file(file) | {"adapter.weight": torch.ones(2)}, file)
    assert "no known class has the tensors adapter.weight, classifier.bias" in convert_error(
        fixture.folder, tmp_path / "out"
    )


@pytest.mark.parametrize("existing", ["model.safetensors", "notes.txt"])
def test_convert_overwrites_no_file(existing: str, tmp_path: Path) -> None:
    fixture = write_torch("base", "safetensors", tmp_path / "in")
    out = tmp_path / "out"
    out.mkdir()
    (out / existing).write_text("mine")
    assert f"{out} is not empty: it contains {out / existing}" in convert_error(fixture.folder, out)
    assert [file.name for file in out.iterdir()] == [existing]
    assert "is not empty" in convert_error(fixture.folder, fixture.folder)


def test_an_output_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    fixture = write_torch("base", "safetensors", tmp_path / "in")
    (tmp_path / "file").write_text("no folder")
    assert f"cannot write {tmp_path}/file/out: " in convert_error(fixture.folder, tmp_path / "file/out")


def test_convert_writes_to_any_fsspec_store(tmp_path: Path) -> None:
    fixture = write_torch("token_classification", "bin", tmp_path)
    out = "memory://converted/here"
    convert(Checkpoint(str(fixture.folder)), out, {})
    assert fsspec.filesystem("memory").exists("/converted/here/config.json")
    file, tensors = load_tensors(Checkpoint(out))
    expected = load_tensors(Checkpoint(str(fixture.folder)))[1]
    assert file == "model.safetensors"
    assert tensors.keys() == expected.keys()
    with pytest.raises(CheckpointError, match="memory://converted/here is not empty"):
        convert(Checkpoint(str(fixture.folder)), out, {})

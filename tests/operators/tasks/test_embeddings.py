"""Embeddings equal Transformers' hidden states, pooled as sentence-transformers pools them; long documents by their windows."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
import torch
import transformers

from distilray.model.checkpoint.checkpoint import Checkpoint
from distilray.model.inference.windows import split
from distilray.model.tokenizer.tokenizer import Tokenizer
from distilray.operators.tasks import Embeddings
from tests.operators.harness import answers, reasons, refused
from tests.operators.material import corpus_vocabulary, mixed_texts, passage
from tests.support import make_checkpoint

# literal special tokens are text to us: Transformers' tokenizer reads those texts differently
TEXTS = ["", *(text for text in mixed_texts(40) if "[" not in text)]
LAYERS = 3
DIM = 48
GATE = 2e-5  # of values of standard deviation 1: LayerNorms come last


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bare encoder."""
    vocab = list(corpus_vocabulary())
    return make_checkpoint(tmp_path_factory.mktemp("base"), head="base", layers=LAYERS, vocab=vocab)


@pytest.fixture(scope="module")
def headed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cased token classifier of 40 tokens."""
    return make_checkpoint(tmp_path_factory.mktemp("headed"), layers=1, lower=False, positions=40)


def embed(folder: Path, texts: list[str], **options: Any) -> pa.Table:
    return answers(Embeddings(model=str(folder), **options), texts)


def vectors(table: pa.Table) -> npt.NDArray[np.floating]:
    """[R, dim]"""
    column = table["embedding"].combine_chunks()
    return column.flatten().to_numpy().reshape(len(column), -1)


@torch.inference_mode()
def hf_vectors(folder: Path, texts: list[str], pooling: str = "mean", **options: Any) -> npt.NDArray[np.floating]:
    """[layers + 1, R, dim]: hidden states of padded batches, pooled under the attention mask."""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    found = np.zeros((model.config.n_layers + 1, len(texts), model.config.dim), dtype=np.float32)
    for first in range(0, len(texts), 32):
        rows = order[first : first + 32]
        inputs = tokenizer([texts[i] for i in rows], padding=True, return_tensors="pt", **options)
        hidden = model(**inputs, output_hidden_states=True).hidden_states
        mask = inputs["attention_mask"][:, :, None].float()
        for layer, states in enumerate(hidden):
            pooled = (states * mask).sum(1) / mask.sum(1) if pooling == "mean" else states[:, 0]
            found[layer, rows] = pooled.numpy()
    return found


# against Transformers


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_every_layer_equals_transformers(folder: Path, pooling: str) -> None:
    """All in one job: one pass of the encoder serves every layer."""
    assert len(TEXTS) > 200
    layers = [*range(LAYERS + 1), None]
    tasks = [Embeddings(model=str(folder), pooling=pooling, layer=n, name=f"layer_{n}") for n in layers]
    table = answers(tasks, TEXTS)
    assert reasons(table) == [None] * len(TEXTS)
    wanted = hf_vectors(folder, TEXTS, pooling)
    for layer, task in zip(layers, tasks, strict=True):
        found = vectors(table.select([task.name]).rename_columns(["embedding"]))
        np.testing.assert_allclose(found, wanted[LAYERS if layer is None else layer], atol=GATE)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_the_encoder_under_a_head_equals_transformers(headed: Path, pooling: str) -> None:
    """Long texts are cut as its tokenizer cuts them."""
    table = embed(headed, TEXTS, pooling=pooling, long_texts="truncate")
    np.testing.assert_allclose(vectors(table), hf_vectors(headed, TEXTS, pooling, truncation=True)[-1], atol=GATE)
    sizes = [len(ids) for ids in transformers.AutoTokenizer.from_pretrained(headed)(TEXTS, verbose=False)["input_ids"]]
    assert table["embedding_truncated"].to_pylist() == [size > 40 for size in sizes]
    assert 30 < table["embedding_truncated"].to_numpy().sum() < 190


def test_normalised_vectors_have_length_one(folder: Path) -> None:
    found = vectors(embed(folder, TEXTS, normalize=True))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    wanted = hf_vectors(folder, TEXTS)[-1]
    np.testing.assert_allclose(found, wanted / np.linalg.norm(wanted, axis=1, keepdims=True), atol=GATE)


@pytest.mark.parametrize("normalize", [False, True])
def test_half_precision_rounds_and_nothing_else(folder: Path, normalize: bool) -> None:
    table = embed(folder, TEXTS, dtype="float16", normalize=normalize)
    assert table["embedding"].type == pa.list_(pa.float16(), DIM)
    full = embed(folder, TEXTS, normalize=normalize)
    assert full["embedding"].type == pa.list_(pa.float32(), DIM)
    np.testing.assert_array_equal(vectors(table), vectors(full).astype(np.float16))


# long documents


@torch.inference_mode()
def windowed(folder: Path, texts: list[str], pooling: str) -> npt.NDArray[np.floating]:
    """[R, dim]: Transformers' model on one window after the other; every token of a window counts the same."""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = Tokenizer(Checkpoint(str(folder)))
    cls_id, sep_id = tokenizer.specials
    capacity = tokenizer.max_length - 2
    found = []
    for text in texts:
        tokens = tokenizer([text])
        windows = split(tokens.offsets, tokens.word_ids, capacity, min(64, capacity // 4), min_windows=1)
        inputs = [tokens.input_ids[a:b].tolist() for a, b in zip(windows.start, windows.end, strict=True)]
        states = [model(torch.tensor([[cls_id, *ids, sep_id]])).last_hidden_state[0] for ids in inputs]
        pooled = torch.cat(states) if pooling == "mean" else torch.stack([each[0] for each in states])
        found.append(pooled.mean(0).numpy())
    return np.array(found)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_windows_are_pooled_as_a_loop_pools_them(headed: Path, pooling: str) -> None:
    texts = ["", *TEXTS[::12], passage(3, 700), "", "washington", passage(5, 60)]
    found = vectors(embed(headed, texts, pooling=pooling, long_texts="mean"))
    np.testing.assert_allclose(found, windowed(headed, texts, pooling), atol=GATE)


def test_what_is_done_with_long_texts_matters_to_long_texts_only(headed: Path) -> None:
    table = embed(headed, TEXTS)
    assert {*reasons(table)} == {None, "text_too_long"}
    assert "the model's 40 tokens" in next(each for each in table["_message"].to_pylist() if each)
    fits = np.array([reason is None for reason in reasons(table)])
    for how in ("truncate", "mean"):
        other = embed(headed, TEXTS, long_texts=how)
        assert reasons(other) == [None] * len(TEXTS)
        np.testing.assert_allclose(vectors(other)[fits], vectors(table)[fits], atol=GATE)


# what does not fit


def test_a_vector_that_half_precision_does_not_hold_is_a_dead_letter(tmp_path: Path) -> None:
    """Normalised, or in float32, there is room for it."""
    folder = make_checkpoint(tmp_path, head="base", layers=1)
    model = transformers.AutoModel.from_pretrained(folder)
    with torch.no_grad():
        model.embeddings.LayerNorm.weight.mul_(1e6)
    model.save_pretrained(folder)
    half = embed(folder, ["war", "peace"], dtype="float16", layer=0)
    assert reasons(half) == ["embedding_overflow"] * 2
    assert "65504, the most a float16 holds; choose dtype float32, or normalize" in half["_message"][0].as_py()
    assert reasons(embed(folder, ["war", "peace"], layer=0)) == [None, None]
    fine = embed(folder, ["war", "peace"], dtype="float16", layer=0, normalize=True)
    assert reasons(fine) == [None, None]
    np.testing.assert_allclose(np.linalg.norm(vectors(fine).astype(np.float32), axis=1), 1, atol=1e-3)


def test_no_rows_have_no_vectors(folder: Path) -> None:
    for how in ("error", "truncate", "mean"):
        table = embed(folder, [], long_texts=how)
        assert (len(table), table["embedding"].type) == (0, pa.list_(pa.float32(), DIM))


def test_options_that_do_not_fit_are_refused(folder: Path) -> None:
    refused(Embeddings(model=str(folder), layer=LAYERS + 1), "the model has layers 0 to 3, got 4")
    with pytest.raises(ValueError, match="long_texts max has no meaning for embeddings"):
        Embeddings(model="m", long_texts="max")

"""Embeddings equal the hidden states of Transformers, pooled as in sentence-transformers.

The vectors of long documents are means over their windows.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
import torch
import transformers

from distilray.model.checkpoint.checkpoint import Checkpoint
from distilray.model.inference.windows import split_into_windows
from distilray.model.tokenizer.tokenizer import Tokenizer
from distilray.operators.tasks import Embeddings
from tests.operators.harness import answers, assert_rejected, reasons
from tests.operators.reference import corpus_vocabulary, mixed_texts, passage
from tests.support import make_checkpoint

# distilray reads literal special tokens as text, but the tokenizer of Transformers does not
TEXTS = ["", *(text for text in mixed_texts(40) if "[" not in text)]
LAYERS = 3
DIM = 48
GATE = 2e-5  # the values have standard deviation 1: the last layer is a LayerNorm


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint without a head."""
    vocab = list(corpus_vocabulary())
    return make_checkpoint(tmp_path_factory.mktemp("base"), head="base", layers=LAYERS, vocab=vocab)


@pytest.fixture(scope="module")
def headed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cased token classifier with 40 positions."""
    return make_checkpoint(tmp_path_factory.mktemp("headed"), layers=1, lower=False, positions=40)


def embed(folder: Path, texts: list[str], **options: Any) -> pa.Table:
    return answers(Embeddings(model=str(folder), **options), texts)


def vectors(table: pa.Table) -> npt.NDArray[np.floating]:
    """Return the vectors of the rows, [R, dim]."""
    column = table["embedding"].combine_chunks()
    return column.flatten().to_numpy().reshape(len(column), -1)


@torch.inference_mode()
def hf_vectors(folder: Path, texts: list[str], pooling: str = "mean", **options: Any) -> npt.NDArray[np.floating]:
    """Return the hidden states of padded batches, pooled with the attention mask, [layers + 1, R, dim]."""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    pooled_states = np.zeros((model.config.n_layers + 1, len(texts), model.config.dim), dtype=np.float32)
    for first in range(0, len(texts), 32):
        rows = order[first : first + 32]
        inputs = tokenizer([texts[i] for i in rows], padding=True, return_tensors="pt", **options)
        hidden = model(**inputs, output_hidden_states=True).hidden_states
        mask = inputs["attention_mask"][:, :, None].float()
        for layer, states in enumerate(hidden):
            pooled = (states * mask).sum(1) / mask.sum(1) if pooling == "mean" else states[:, 0]
            pooled_states[layer, rows] = pooled.numpy()
    return pooled_states


# against Transformers


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_every_layer_equals_transformers(folder: Path, pooling: str) -> None:
    """All tasks share one pass of the encoder."""
    assert len(TEXTS) > 200
    layers = [*range(LAYERS + 1), None]
    tasks = [Embeddings(model=str(folder), pooling=pooling, layer=n, name=f"layer_{n}") for n in layers]
    table = answers(tasks, TEXTS)
    assert reasons(table) == [None] * len(TEXTS)
    expected = hf_vectors(folder, TEXTS, pooling)
    for layer, task in zip(layers, tasks, strict=True):
        actual = vectors(table.select([task.name]).rename_columns(["embedding"]))
        np.testing.assert_allclose(actual, expected[LAYERS if layer is None else layer], atol=GATE)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_the_encoder_under_a_head_equals_transformers(headed: Path, pooling: str) -> None:
    """Long texts are truncated as by its tokenizer."""
    table = embed(headed, TEXTS, pooling=pooling, long_texts="truncate")
    np.testing.assert_allclose(vectors(table), hf_vectors(headed, TEXTS, pooling, truncation=True)[-1], atol=GATE)
    sizes = [len(ids) for ids in transformers.AutoTokenizer.from_pretrained(headed)(TEXTS, verbose=False)["input_ids"]]
    assert table["embedding_truncated"].to_pylist() == [size > 40 for size in sizes]
    assert 30 < table["embedding_truncated"].to_numpy().sum() < 190


def test_normalised_vectors_have_length_one(folder: Path) -> None:
    actual = vectors(embed(folder, TEXTS, normalize=True))
    np.testing.assert_allclose(np.linalg.norm(actual, axis=1), 1, atol=1e-6)
    expected = hf_vectors(folder, TEXTS)[-1]
    np.testing.assert_allclose(actual, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=GATE)


@pytest.mark.parametrize("normalize", [False, True])
def test_half_precision_only_rounds(folder: Path, normalize: bool) -> None:
    table = embed(folder, TEXTS, dtype="float16", normalize=normalize)
    assert table["embedding"].type == pa.list_(pa.float16(), DIM)
    full = embed(folder, TEXTS, normalize=normalize)
    assert full["embedding"].type == pa.list_(pa.float32(), DIM)
    np.testing.assert_array_equal(vectors(table), vectors(full).astype(np.float16))


# long documents


@torch.inference_mode()
def windowed(folder: Path, texts: list[str], pooling: str) -> npt.NDArray[np.floating]:
    """Return the vectors of the model of Transformers, called once per window, [R, dim]. All tokens have one weight."""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = Tokenizer(Checkpoint(str(folder)))
    cls_id, sep_id = tokenizer.specials
    capacity = tokenizer.max_length - 2
    means = []
    for text in texts:
        tokens = tokenizer([text])
        windows = split_into_windows(tokens.offsets, tokens.word_ids, capacity, min(64, capacity // 4), min_windows=1)
        inputs = [tokens.input_ids[a:b].tolist() for a, b in zip(windows.start, windows.end, strict=True)]
        states = [model(torch.tensor([[cls_id, *ids, sep_id]])).last_hidden_state[0] for ids in inputs]
        pooled = torch.cat(states) if pooling == "mean" else torch.stack([window[0] for window in states])
        means.append(pooled.mean(0).numpy())
    return np.array(means)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_windows_are_pooled_as_in_a_loop(headed: Path, pooling: str) -> None:
    texts = ["", *TEXTS[::12], passage(3, 700), "", "washington", passage(5, 60)]
    actual = vectors(embed(headed, texts, pooling=pooling, long_texts="mean"))
    np.testing.assert_allclose(actual, windowed(headed, texts, pooling), atol=GATE)


def test_the_option_long_texts_changes_only_long_texts(headed: Path) -> None:
    table = embed(headed, TEXTS)
    assert {*reasons(table)} == {None, "text_too_long"}
    assert "the model's 40 tokens" in next(message for message in table["_message"].to_pylist() if message)
    fits = np.array([reason is None for reason in reasons(table)])
    for rule in ("truncate", "mean"):
        other = embed(headed, TEXTS, long_texts=rule)
        assert reasons(other) == [None] * len(TEXTS)
        np.testing.assert_allclose(vectors(other)[fits], vectors(table)[fits], atol=GATE)


# values and options that do not fit


def test_a_vector_beyond_half_precision_is_a_dead_letter(tmp_path: Path) -> None:
    """The normalised vector, and the vector in float32, are valid."""
    folder = make_checkpoint(tmp_path, head="base", layers=1)
    model = transformers.AutoModel.from_pretrained(folder)
    with torch.no_grad():
        model.embeddings.LayerNorm.weight.mul_(1e6)
    model.save_pretrained(folder)
    half = embed(folder, ["war", "peace"], dtype="float16", layer=0)
    assert reasons(half) == ["embedding_overflow"] * 2
    assert "65504, the most a float16 holds; choose dtype float32, or normalize" in half["_message"][0].as_py()
    assert reasons(embed(folder, ["war", "peace"], layer=0)) == [None, None]
    normalized = embed(folder, ["war", "peace"], dtype="float16", layer=0, normalize=True)
    assert reasons(normalized) == [None, None]
    np.testing.assert_allclose(np.linalg.norm(vectors(normalized).astype(np.float32), axis=1), 1, atol=1e-3)


def test_no_rows_give_no_vectors(folder: Path) -> None:
    for rule in ("error", "truncate", "mean"):
        table = embed(folder, [], long_texts=rule)
        assert (len(table), table["embedding"].type) == (0, pa.list_(pa.float32(), DIM))


def test_unsuitable_options_are_an_error(folder: Path) -> None:
    assert_rejected(Embeddings(model=str(folder), layer=LAYERS + 1), "the model has layers 0 to 3, got 4")
    with pytest.raises(ValueError, match="long_texts max has no meaning for embeddings"):
        Embeddings(model="m", long_texts="max")

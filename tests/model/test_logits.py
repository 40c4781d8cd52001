"""Logits equal Transformers', within gates in units of the standard deviation of its fp32 logits (distilbert.md 4)."""

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import DistilBertConfig, DistilBertForTokenClassification

from distilray.model.activations import ACTIVATIONS
from distilray.model.attention import AttentionName, choose_attention
from distilray.model.checkpoint import Checkpoint
from distilray.model.heads import TokenClassifier
from distilray.model.predictor import Predictor
from distilray.model.tokenizer import Tokenizer
from distilray.model.weights import load_model, sinusoidal_positions
from tests.support import (
    Sequences,
    hf_logits,
    make_checkpoint,
    packed_logits,
    ragged_lengths,
    random_sequences,
    randomise,
    vocabulary,
)

CPU = torch.device("cpu")
FP32_GATE = 2e-5
VOCABULARY = len(vocabulary())


@dataclass(frozen=True)
class Gate:
    """The largest and the mean difference allowed."""

    largest: float
    mean: float


GATES = {torch.float32: Gate(FP32_GATE, FP32_GATE), torch.bfloat16: Gate(0.15, 0.02), torch.float16: Gate(0.02, 0.02)}


def assert_parity(ours: torch.Tensor, theirs: torch.Tensor, gate: Gate = GATES[torch.float32]) -> None:
    """Differences within the gate; the same label wherever the two best differ by more than twice the gate."""
    assert torch.isfinite(theirs).all()
    unit = theirs.std()
    difference = (ours - theirs).abs() / unit
    assert difference.max() <= gate.largest
    assert difference.mean() <= gate.mean
    best = theirs.topk(2).values
    clear = best[:, 0] - best[:, 1] > 2 * gate.largest * unit
    assert clear.any()
    assert torch.equal(ours.argmax(-1)[clear], theirs.argmax(-1)[clear])


def load(
    folder: Path, attention: AttentionName = "sdpa", dtype: torch.dtype = torch.float32, device: torch.device = CPU
) -> TokenClassifier:
    return load_model(Checkpoint(str(folder)), choose_attention(attention, device, dtype, 12), dtype)


@pytest.fixture(scope="module")
def batch() -> Sequences:
    """Sequences of 1 to 512 tokens, both ends included."""
    return random_sequences(ragged_lengths(seed=0, count=10, longest=512), VOCABULARY)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_logits_equal_transformers(checkpoint: Path, batch: Sequences, attention: AttentionName) -> None:
    assert {1, 512} <= set(batch.lengths)
    assert_parity(packed_logits(load(checkpoint, attention), batch), hf_logits(checkpoint, batch))


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of std 0.2: at 0.3 Transformers' own 16-bit logits are further from its fp32 ones than the gates."""
    return make_checkpoint(tmp_path_factory.mktemp("calm"), std=0.2, dim=64)  # flash kernels want head_dim % 8 == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_16_bit_logits_equal_transformers_in_fp32(
    calm: Path, batch: Sequences, attention: AttentionName, dtype: torch.dtype
) -> None:
    assert_parity(packed_logits(load(calm, attention, dtype), batch), hf_logits(calm, batch), GATES[dtype])


@pytest.mark.parametrize("lengths", [[1], [512], [1, 1, 1], [7, 7, 9, 9, 9, 30]], ids=str)
def test_any_grouping_of_lengths_equals_transformers(checkpoint: Path, lengths: list[int]) -> None:
    batch = random_sequences(lengths, VOCABULARY, seed=len(lengths))
    assert_parity(packed_logits(load(checkpoint), batch), hf_logits(checkpoint, batch))


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_every_activation_equals_transformers(tmp_path: Path, activation: str) -> None:
    folder = make_checkpoint(tmp_path, layers=1, dim=16, hidden_dim=24, heads=2, activation=activation)
    batch = random_sequences([3, 20], VOCABULARY)
    assert_parity(packed_logits(load(folder), batch), hf_logits(folder, batch))


def test_a_sequence_longer_than_the_positions_is_an_error(checkpoint: Path) -> None:
    with pytest.raises(ValueError, match="at most 512 tokens, got one of 513"):
        packed_logits(load(checkpoint), random_sequences([3, 513], VOCABULARY))


# old names in config.json and in the file


def rewrite_config(folder: Path, **renamed: str) -> None:
    file = folder / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({renamed.get(key, key): value for key, value in config.items()}))


def rename_tensors(folder: Path, *replacements: tuple[str, str], prefix: str = "") -> None:
    def renamed(name: str) -> str:
        for old, new in replacements:
            name = name.replace(old, new)
        return prefix + name

    file = folder / "model.safetensors"
    save_file({renamed(name): tensor for name, tensor in load_file(file).items()}, file)


GAMMA_BETA = tuple(
    (f"{norm}.{new}", f"{norm}.{old}")
    for norm in ("LayerNorm", "layer_norm")
    for new, old in (("weight", "gamma"), ("bias", "beta"))
)


@pytest.mark.parametrize(
    ("replacements", "prefix"),
    [(GAMMA_BETA, ""), ((), "module."), ((("distilbert.", ""),), ""), (GAMMA_BETA, "module.")],
    ids=["gamma and beta", "module prefix", "no base prefix", "gamma, beta and module prefix"],
)
def test_old_tensor_names_load(tmp_path: Path, replacements: tuple[tuple[str, str], ...], prefix: str) -> None:
    folder = make_checkpoint(tmp_path)
    batch = random_sequences([5, 40], VOCABULARY)
    wanted = hf_logits(folder, batch)
    rename_tensors(folder, *replacements, prefix=prefix)
    assert_parity(packed_logits(load(folder), batch), wanted)


def test_old_config_names_load(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, layers=3)
    rewrite_config(folder, dim="hidden_size", n_heads="num_attention_heads", n_layers="num_hidden_layers")
    assert "dim" not in json.loads((folder / "config.json").read_text())
    batch = random_sequences([5, 40], VOCABULARY)
    assert_parity(packed_logits(load(folder), batch), hf_logits(folder, batch))


def make_sinusoidal(folder: Path) -> DistilBertForTokenClassification:
    """A checkpoint with Transformers' own sinusoidal positions and random weights elsewhere."""
    make_checkpoint(folder)
    model = DistilBertForTokenClassification(DistilBertConfig.from_pretrained(folder, sinusoidal_pos_embds=True))
    positions = model.distilbert.embeddings.position_embeddings.weight
    generated = positions.detach().clone()
    randomise(model, seed=0, std=0.3)
    with torch.no_grad():
        positions.copy_(generated)
    model.save_pretrained(folder)
    return model


def test_missing_sinusoidal_positions_are_generated(tmp_path: Path) -> None:
    model = make_sinusoidal(tmp_path)
    batch = random_sequences([5, 512], VOCABULARY)
    wanted = hf_logits(tmp_path, batch)
    tensors = load_file(tmp_path / "model.safetensors")
    positions = tensors.pop("distilbert.embeddings.position_embeddings.weight")
    save_file(tensors, tmp_path / "model.safetensors")
    assert torch.allclose(sinusoidal_positions(Checkpoint(str(tmp_path)).config), positions, atol=1e-6)
    assert_parity(packed_logits(load(tmp_path), batch), wanted)
    assert model.config.sinusoidal_pos_embds


def test_stored_positions_win_over_sinusoidal_ones(tmp_path: Path) -> None:
    model = make_sinusoidal(tmp_path)
    randomise(model, seed=1, std=0.3)  # the positions too, as after fine-tuning
    model.save_pretrained(tmp_path)
    batch = random_sequences([5, 40], VOCABULARY)
    assert_parity(packed_logits(load(tmp_path), batch), hf_logits(tmp_path, batch))


# packing


@dataclass(frozen=True)
class Texts:
    """W windows in no order of length: their ids laid end to end, without [CLS] and [SEP]."""

    ids: np.ndarray
    first: np.ndarray
    lengths: np.ndarray

    def pick(self, which: np.ndarray) -> "Texts":
        return Texts(self.ids, self.first[which], self.lengths[which])


@pytest.fixture(scope="module")
def windows() -> Texts:
    draw = np.random.default_rng(5)
    lengths = draw.permutation(np.append(draw.integers(1, 120, 30), [1, 1, 510]))
    return Texts(draw.integers(5, VOCABULARY, lengths.sum()), np.cumsum(lengths) - lengths, lengths)


def predictor(folder: Path, tokens_per_pack: int | None = None) -> Predictor:
    checkpoint = Checkpoint(str(folder))
    tokenizer = Tokenizer(checkpoint)
    return Predictor(checkpoint, tokenizer.cls_id, tokenizer.sep_id, "float32", "sdpa", tokens_per_pack)


def predict(model: Predictor, texts: Texts) -> list[torch.Tensor]:
    """The logits of each window."""
    flat = torch.from_numpy(model(texts.ids, texts.first, texts.lengths))
    return list(flat.split(texts.lengths.tolist()))


def assert_all_close(ours: list[torch.Tensor], wanted: list[torch.Tensor]) -> None:
    assert_parity(torch.cat(ours), torch.cat(wanted))


def test_the_predictor_puts_cls_and_sep_around_every_window(checkpoint: Path, windows: Texts) -> None:
    model = predictor(checkpoint)
    bare = np.split(windows.ids, windows.first[1:])
    ids = np.concatenate([[model.cls_id, *window, model.sep_id] for window in bare])
    lengths = windows.lengths + 2
    wanted = hf_logits(checkpoint, Sequences(ids, lengths)).split(lengths.tolist())
    assert_all_close(predict(model, windows), [logits[1:-1] for logits in wanted])


@pytest.mark.parametrize("tokens_per_pack", [1, 64, 700, 10**6])
def test_results_do_not_depend_on_the_budget(checkpoint: Path, windows: Texts, tokens_per_pack: int) -> None:
    wanted = predict(predictor(checkpoint), windows)
    model = predictor(checkpoint, tokens_per_pack)
    assert_all_close(predict(model, windows), wanted)
    assert model.computed_tokens == (windows.lengths + 2).sum()


def test_results_do_not_depend_on_the_order_of_windows(checkpoint: Path, windows: Texts) -> None:
    model = predictor(checkpoint, 700)
    wanted = predict(model, windows)
    order = np.random.default_rng(6).permutation(len(wanted))
    assert_all_close(predict(model, windows.pick(order)), [wanted[i] for i in order])


def test_results_do_not_depend_on_who_else_is_in_the_pack(checkpoint: Path, windows: Texts) -> None:
    model = predictor(checkpoint)
    together = predict(model, windows)
    alone = [predict(model, windows.pick(np.array([i])))[0] for i in range(len(together))]
    assert_all_close(alone, together)


def test_no_windows_give_no_logits(checkpoint: Path) -> None:
    nothing = np.zeros(0, dtype=np.int64)
    assert predictor(checkpoint)(nothing, nothing, nothing).shape == (0, 7)


# GPU kernels


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("attention", ["varlen", "flash", "sdpa"])
def test_gpu_kernels_equal_eager_fp32(calm: Path, attention: AttentionName, dtype: torch.dtype) -> None:
    if attention == "flash" and importlib.util.find_spec("flash_attn") is None:
        pytest.skip("flash_attn is not installed")
    batch = random_sequences(ragged_lengths(seed=3, count=60, longest=512), VOCABULARY)
    wanted = packed_logits(load(calm, "eager"), batch)
    model = load(calm, attention, dtype, torch.device("cuda"))
    assert_parity(packed_logits(model, batch, "cuda"), wanted, GATES[dtype])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_auto_on_a_gpu_equals_transformers(calm: Path) -> None:
    model = Predictor(Checkpoint(str(calm)), cls_id=2, sep_id=3)
    assert model.backend.dtype == "float16"
    lengths = np.array([30, 1, 510])
    ids = np.random.default_rng(4).integers(5, VOCABULARY, lengths.sum())
    first = np.cumsum(lengths) - lengths
    ours = torch.from_numpy(model(ids, first, lengths))
    alone = [
        Sequences(np.array([2, *ids[a : a + n], 3]), np.array([n + 2])) for a, n in zip(first, lengths, strict=True)
    ]
    wanted = torch.cat([hf_logits(calm, sequence)[1:-1] for sequence in alone])
    assert_parity(ours, wanted, GATES[torch.float16])

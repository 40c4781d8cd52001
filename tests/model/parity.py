"""Helpers that compare the model with Transformers: cases, batches, outputs and gates."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor, nn

from distilray.model.arrays import offsets_of
from distilray.model.checkpoint.checkpoint import Checkpoint
from distilray.model.checkpoint.weights import Weights, check_weights, load_encoder, load_head, read_weights
from distilray.model.inference.transfer import send
from distilray.model.network.attention import choose_attention
from distilray.model.network.encoder import Encoder
from distilray.model.network.names import AttentionName, HeadName
from distilray.model.network.pack import Pack, make_pack
from tests.support import make_checkpoint, vocabulary

VOCABULARY = len(vocabulary())


@dataclass(frozen=True)
class Gate:
    """The largest and the mean difference allowed, in standard deviations of Transformers' fp32 outputs."""

    largest: float
    mean: float


FP32 = Gate(2e-5, 2e-5)
GATES = {torch.float32: FP32, torch.bfloat16: Gate(0.15, 0.02), torch.float16: Gate(0.02, 0.02)}


def assert_parity(actual: Tensor, reference: Tensor, gate: Gate = FP32) -> None:
    """Assert that the outputs agree with Transformers'.

    All differences must be within the gate. The best label must be the same in each row whose two best outputs differ
    by more than twice the gate.
    """
    assert actual.shape == reference.shape
    assert torch.isfinite(reference).all()
    unit = reference.std()
    difference = (actual - reference).abs() / unit
    assert difference.max() <= gate.largest
    assert difference.mean() <= gate.mean
    if reference.shape[1] == 1:
        return
    best = reference.topk(2).values
    clear = best[:, 0] - best[:, 1] > 2 * gate.largest * unit
    assert clear.any()
    assert torch.equal(actual.argmax(-1)[clear], reference.argmax(-1)[clear])


@dataclass(frozen=True)
class Case:
    """A head and a checkpoint for it. options: the keyword arguments of make_checkpoint."""

    name: HeadName
    options: dict[str, Any] = field(default_factory=dict)

    def at(self, batch: "Batch") -> Tensor:
        """Return the positions that the head reads.

        These are all tokens, the first token of each sequence, or one token in seven for "masked-lm". If a masked-lm
        head read all tokens, some of its 16-bit logits would be beyond the gates in Transformers too.
        """
        if self.name in ("token-classification", "question-answering"):
            return torch.arange(len(batch.ids))
        if self.name == "masked-lm":
            return torch.arange(0, len(batch.ids), 7)
        return torch.from_numpy(offsets_of(batch.lengths)[:-1])


def _classifier(labels: tuple[str, ...], problem_type: str | None) -> Case:
    options = {"head": "sequence-classification", "labels": labels, "problem_type": problem_type}
    return Case("sequence-classification", options)


CASES = {
    "token-classification": Case("token-classification"),
    "single-label": _classifier(("bad", "so so", "good"), "single_label_classification"),
    "multi-label": _classifier(("a", "b", "c", "d", "e"), "multi_label_classification"),
    "regression": _classifier(("score",), "regression"),
    "multiple-choice": Case("multiple-choice", {"head": "multiple-choice"}),
    "question-answering": Case("question-answering", {"head": "question-answering"}),
    "masked-lm": Case("masked-lm", {"head": "masked-lm"}),
    "masked-lm-untied": Case("masked-lm", {"head": "masked-lm", "tie_word_embeddings": False}),
    "first-token": Case("first-token", {"head": "base"}),
    "mean-pooling": Case("mean-pooling", {"head": "base"}),
}
OPTIONS_16_BIT = {"std": 0.2, "heads": 3, "seed": 1}
"""Options of make_checkpoint for tests in 16 bits.

With larger weights, the 16-bit logits of Transformers itself differ from its fp32 logits by more than the gates. Flash
kernels need a head dimension that is a multiple of 8.
"""


@dataclass(frozen=True)
class Batch:
    """B sequences of token ids, concatenated. A pack expects them sorted by length.

    ids: [sum(lengths)]. lengths: [B].
    """

    ids: np.ndarray
    lengths: np.ndarray

    @property
    def pack(self) -> Pack:
        return make_pack(self.ids, self.lengths)

    def split(self) -> tuple[Tensor, ...]:
        """Return the ids of each sequence."""
        return torch.from_numpy(self.ids).split(self.lengths.tolist())


def random_batch(lengths: Sequence[int] | np.ndarray, seed: int = 0) -> Batch:
    """Draw random ids of the vocabulary. [PAD] and the other special tokens may occur."""
    ids = np.random.default_rng(seed).integers(0, VOCABULARY, int(np.sum(lengths)))
    return Batch(ids, np.sort(lengths))


def ragged_batch(count: int = 20, longest: int = 512, seed: int = 0) -> Batch:
    """Draw sequences of 1 to `longest` tokens. Both extremes occur, and short sequences are more frequent."""
    lengths = longest ** np.random.default_rng(seed).random(count)
    return random_batch(np.append(lengths.astype(np.int64), [1, longest]), seed)


class Model(nn.Module):
    """An encoder and a head, connected in the way of the predictor."""

    def __init__(self, encoder: Encoder, head: nn.Module, depth: int) -> None:
        super().__init__()
        self.encoder, self.head, self.depth = encoder, head, depth

    def forward(self, pack: Pack, at: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.encoder(pack, {self.depth})[self.depth], at, pack)
        return outputs


def weights_of(folder: Path, name: HeadName) -> Weights:
    """Read the weights of a checkpoint and check that they fit the head."""
    weights = read_weights(Checkpoint(str(folder)))
    check_weights(name, weights)
    return weights


def load(
    folder: Path,
    name: HeadName,
    attention: AttentionName = "sdpa",
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    depth: int | None = None,
) -> Model:
    weights = weights_of(folder, name)
    kernel = choose_attention(attention, torch.device(device), dtype, weights.config.head_dim)
    depth = weights.config.n_layers if depth is None else depth
    return Model(load_encoder(weights, kernel, dtype), load_head(name, weights, dtype), depth).to(device).eval()


@torch.inference_mode()
def model_outputs(model: Model, case: Case, batch: Batch, device: str = "cpu") -> Tensor:
    """Compute the outputs [P, K] of the model in fp32, with all sequences in one pack."""
    pack, (at,) = send(batch.pack, [case.at(batch).numpy()], torch.device(device))
    return model(pack, at).float().cpu()


def hf_model(folder: Path, **options: Any) -> transformers.PreTrainedModel:
    """Load the Transformers model of the class that config.json names, in fp32."""
    config = transformers.DistilBertConfig.from_pretrained(folder)
    return getattr(transformers, config.architectures[0]).from_pretrained(folder, dtype=torch.float32, **options).eval()


@torch.inference_mode()
def hf_outputs(folder: Path, case: Case, batch: Batch) -> Tensor:
    """Compute the fp32 outputs [P, K] of Transformers, with one call for each sequence to avoid padding."""
    model = hf_model(folder)
    outputs = torch.cat([_hf_output(model, case.name, ids) for ids in batch.split()])
    return outputs if len(outputs) == len(batch.lengths) else outputs[case.at(batch)]


def _hf_output(model: transformers.PreTrainedModel, name: HeadName, ids: Tensor) -> Tensor:
    """Compute the outputs of one sequence: [L, K] for a head that reads tokens, else [1, K]."""
    match name:
        case "token-classification" | "masked-lm":
            return model(ids[None]).logits[0]
        case "sequence-classification":
            return model(ids[None]).logits
        case "multiple-choice":
            return model(ids[None, None]).logits
        case "question-answering":
            out = model(ids[None])
            return torch.stack([out.start_logits[0], out.end_logits[0]], dim=1)
        case "first-token":
            return model(ids[None]).last_hidden_state[:, 0]
        case "mean-pooling":
            return model(ids[None]).last_hidden_state.mean(1)


@dataclass(frozen=True)
class Example:
    """A case, a checkpoint for it, a batch, and the outputs of Transformers for the batch."""

    case: Case
    folder: Path
    batch: Batch
    expected: Tensor

    def outputs(
        self, attention: AttentionName = "sdpa", dtype: torch.dtype = torch.float32, device: str = "cpu"
    ) -> Tensor:
        model = load(self.folder, self.case.name, attention, dtype, device)
        return model_outputs(model, self.case, self.batch, device)


def make_example(folder: Path, case: Case, batch: Batch, **options: Any) -> Example:
    make_checkpoint(folder, **(case.options | options))
    return Example(case, folder, batch, hf_outputs(folder, case, batch))

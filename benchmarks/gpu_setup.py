"""Shared parts of benchmarks/gpu.py and forward.py: a random model, windows of real text, clocks."""

import shutil
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import transformers
from corpora import english
from harness import VOCABULARY, make_config

from distilray.model.arrays import Ints, offsets_of
from distilray.model.checkpoint.checkpoint import Checkpoint
from distilray.model.checkpoint.weights import Weights, read_weights
from distilray.model.errors import BackendError
from distilray.model.inference.predictor import HeadSpec, Predictor
from distilray.model.inference.requests import HeadRequest, OutputPositions
from distilray.model.inference.sequences import Sequences, single
from distilray.model.inference.windows import split_into_windows
from distilray.model.tokenizer.tokenizer import Tokenizer

BASE, TINY = (768, 6), (128, 2)  # dim and layers
LABELS = 9


@dataclass(frozen=True)
class Setup:
    """A DistilBERT of random weights, and windows of at most 512 tokens of English text."""

    device: torch.device
    quick: bool
    folder: str
    weights: Weights
    tokenizer: Tokenizer
    texts: pa.StringArray
    pool: Ints
    sequences: Sequences

    @property
    def tokens(self) -> int:
        return int(self.sequences.lengths.sum())

    @property
    def head_request(self) -> HeadRequest:
        """The logits of every token of the text."""
        s = self.sequences
        return HeadRequest(OutputPositions(np.arange(len(s.first)), np.ones_like(s.length), s.length))

    def predictor(self, dtype: Any, attention: Any, budget: int | None = None) -> Predictor:
        head = HeadSpec("token-classification", self.weights, self.weights.config.n_layers)
        return Predictor(self.weights, [head], self.tokenizer.specials, dtype, attention, budget)

    def kernels(self, dtype: Any) -> tuple[list[str], dict[str, str]]:
        """Return the attention kernels that run on this machine, and the reasons why the others do not."""
        runs, missing = [], {}
        for name in ("eager", "sdpa", "varlen", "flash"):
            try:
                self.predictor(dtype, name)
                runs.append(name)
            except BackendError as error:
                missing[name] = str(error)
        return runs, missing

    def flops(self) -> float:
        """Compute the FLOP of a pass over all windows: matrices, and attention by each window's own length."""
        c = self.weights.config
        layer = 4 * c.dim**2 + 2 * c.dim * c.hidden_dim
        lengths = self.sequences.lengths.astype(np.float64)
        return c.n_layers * float(2 * layer * lengths.sum() + 4 * c.dim * (lengths**2).sum())

    def ids(self) -> list[torch.Tensor]:
        """Return the windows as lists of ids, for Transformers."""
        cu = offsets_of(self.sequences.lengths)
        whole = torch.from_numpy(self.sequences.assemble(self.pool, self.tokenizer.specials))
        return list(torch.split(whole.long(), np.diff(cu).tolist()))


def make_setup(folder: str, device: torch.device, size: int, quick: bool) -> Setup:
    torch.manual_seed(0)
    config = make_config(*(TINY if quick else BASE), num_labels=LABELS)
    transformers.DistilBertForTokenClassification(config).save_pretrained(folder)
    shutil.copy(VOCABULARY, folder)
    tokenizer = Tokenizer(Checkpoint(folder))
    texts = english(size)
    tokens = tokenizer(texts)
    windows = split_into_windows(tokens.offsets, tokens.word_ids, 510, 0)
    sequences = single(tokens.offsets[:-1][windows.text] + windows.start, windows.lengths)
    weights = read_weights(Checkpoint(folder))
    return Setup(device, quick, folder, weights, tokenizer, texts, tokens.input_ids, sequences)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Measure the wall time of a function, the device's work included."""
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start


def in_turn(rivals: Mapping[str, Callable[[], object]], device: torch.device, repeats: int) -> dict[str, float]:
    """Measure the median seconds of each rival, in turn, after one turn that does not count."""
    times: dict[str, list[float]] = {name: [] for name in rivals}
    for turn in range(repeats + 1):
        for name, work in rivals.items():
            spent = seconds(work, device)
            if turn:
                times[name].append(spent)
    return {name: statistics.median(spent) for name, spent in times.items()}

"""Tests that tokenizer and predictor equal Transformers' tokenizer and padded model on text pairs."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from distilray.model.arrays import offsets_of
from distilray.model.checkpoint.checkpoint import Checkpoint
from distilray.model.checkpoint.weights import read_weights
from distilray.model.inference.predictor import HeadSpec, Predictor
from distilray.model.inference.requests import HeadRequest, OutputPositions, first_positions
from distilray.model.inference.sequences import Sequences, pair
from distilray.model.network.names import HeadName
from distilray.model.tokenizer.tokenizer import Tokenizer
from tests.model.parity import CASES, assert_parity, hf_model
from tests.support import HARD_TEXTS, make_checkpoint, random_texts

FIRST = [*HARD_TEXTS, *random_texts(15, seed=3), "", "only the first", ""]
SECOND = [*random_texts(len(HARD_TEXTS), seed=4), *random_texts(15, seed=5), "only the second", "", ""]


class PairModel:
    """A head, and text pairs of two columns whose tokens are in one pool."""

    def __init__(self, folder: Path, name: HeadName, first: list[str], second: list[str]) -> None:
        checkpoint = Checkpoint(str(folder))
        tokenizer = Tokenizer(checkpoint, "special")  # the mode of Transformers
        tokens = tokenizer([*first, *second])
        begin, length = tokens.offsets[:-1], np.diff(tokens.offsets)
        a, b = np.arange(len(first)), np.arange(len(first), len(first) + len(second))
        self.pool = tokens.input_ids
        self.sequences: Sequences = pair(begin[a], length[a], begin[b], length[b])
        weights = read_weights(checkpoint)
        heads = [HeadSpec(name, weights, weights.config.n_layers)]
        self.predictor = Predictor(weights, heads, tokenizer.specials, "float32", tokens_per_pack=300)

    def outputs(self, positions: OutputPositions) -> torch.Tensor:
        return torch.from_numpy(self.predictor(self.pool, self.sequences, [HeadRequest(positions)])[0][0])


@pytest.mark.parametrize("case", ["single-label", "multi-label", "regression"])
@torch.inference_mode()
def test_text_pairs_equal_transformers(tmp_path: Path, case: str) -> None:
    folder = make_checkpoint(tmp_path, **CASES[case].options)
    encoded = AutoTokenizer.from_pretrained(folder)(FIRST, SECOND, padding=True, return_tensors="pt")
    expected = hf_model(folder)(encoded.input_ids, encoded.attention_mask).logits
    assert_parity(
        PairModel(folder, "sequence-classification", FIRST, SECOND).outputs(first_positions(len(FIRST))), expected
    )


@torch.inference_mode()
def test_rows_of_different_numbers_of_choices_equal_transformers(tmp_path: Path) -> None:
    """Transformers gets one row per call, because all rows of its batches need the same number of choices."""
    folder = make_checkpoint(tmp_path, head="multiple-choice")
    model, tokenizer = hf_model(folder), AutoTokenizer.from_pretrained(folder)
    counts = np.array([2, 5, 3, 2, 4])
    offsets = offsets_of(counts)
    prompts = [prompt for prompt, count in zip(FIRST, counts, strict=False) for _ in range(count)]
    choices = SECOND[: len(prompts)]
    expected = []
    for a, b in pairwise(offsets):
        row = tokenizer(prompts[a:b], choices[a:b], padding=True, return_tensors="pt")
        expected.append(model(row.input_ids[None], row.attention_mask[None]).logits.reshape(-1, 1))
    actual = PairModel(folder, "multiple-choice", prompts, choices)
    assert_parity(actual.outputs(first_positions(len(prompts))), torch.cat(expected))


@torch.inference_mode()
def test_questions_with_contexts_equal_transformers(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, head="question-answering")
    encoded = AutoTokenizer.from_pretrained(folder)(FIRST, SECOND, padding=True, return_tensors="pt")
    out = hf_model(folder)(encoded.input_ids, encoded.attention_mask)
    real = encoded.attention_mask.bool()
    actual = PairModel(folder, "question-answering", FIRST, SECOND)
    lengths = actual.sequences.lengths
    assert lengths.tolist() == real.sum(1).tolist()
    every = OutputPositions(np.arange(len(lengths)), np.zeros_like(lengths), lengths)
    assert_parity(actual.outputs(every), torch.stack([out.start_logits[real], out.end_logits[real]], dim=1))

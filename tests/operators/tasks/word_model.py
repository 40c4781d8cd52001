"""Checkpoints that say of a token what is wanted of its word: for tests of what is made of logits."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from tests.support import ARCHITECTURES, SPECIAL, HeadKind, make_checkpoint


def make_worded(
    folder: Path,
    words: Mapping[str, Sequence[float]],
    labels: tuple[str, ...] = ("start", "end"),
    *,
    head: HeadKind = "token-classification",
    places: Mapping[int, Sequence[float]] | None = None,
    positions: int = 512,
) -> Path:
    """The logits of a token are those of its word, plus those of its position if `places` names it; [CLS] is position 0.

    Words and positions are one-hot, a layer changes nothing, and the head reads off the hot ones.
    """
    places = places or {}
    vocab = list(dict.fromkeys([*SPECIAL, *words]))
    dim = len(vocab) + 1 + len(places)  # one more for all other positions
    sizes: dict[str, Any] = {"layers": 1, "heads": 1, "dim": dim, "hidden_dim": 2, "positions": positions}
    make_checkpoint(folder, labels, head=head, vocab=vocab, **sizes)
    model = getattr(transformers, ARCHITECTURES[head]).from_pretrained(folder)
    read = model.qa_outputs if head == "question-answering" else model.classifier
    deviation = (2 / dim - 4 / dim**2) ** 0.5  # of a vector with two ones
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(float("norm.weight" in name.lower()))
        embeddings = model.distilbert.embeddings
        embeddings.word_embeddings.weight[:] = torch.eye(len(vocab), dim)
        embeddings.position_embeddings.weight[:, len(vocab)] = 1
        for i, (word, logits) in enumerate([*words.items(), *places.items()]):
            if isinstance(word, int):
                hot = len(vocab) + 1 + i - len(words)
                embeddings.position_embeddings.weight[word] = torch.eye(dim)[hot]
            else:
                hot = vocab.index(word)
            read.weight[:, hot] = torch.tensor(logits) * deviation
        read.bias[:] = read.weight.sum(1) * 2 / dim / deviation
    model.save_pretrained(folder)
    return folder

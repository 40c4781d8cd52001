"""Checkpoints whose logits depend only on the word and the position of a token, for tests of decoding."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from tests.support import ARCHITECTURES, SPECIAL, HeadKind, make_checkpoint


def make_word_model(
    folder: Path,
    words: Mapping[str, Sequence[float]],
    labels: tuple[str, ...] = ("start", "end"),
    *,
    head: HeadKind = "token-classification",
    places: Mapping[int, Sequence[float]] | None = None,
    positions: int = 512,
) -> Path:
    """Make a checkpoint with given logits for each word.

    words: the logits of each word. places: logits of some positions, which are added; [CLS] has position 0. The
    embeddings of words and positions are one-hot vectors. The layer does not change them, and the head maps them to
    logits.
    """
    places = places or {}
    vocab = list(dict.fromkeys([*SPECIAL, *words]))
    dim = len(vocab) + 1 + len(places)  # one dimension for all other positions
    settings: dict[str, Any] = {"layers": 1, "heads": 1, "dim": dim, "hidden_dim": 2, "positions": positions}
    make_checkpoint(folder, labels, head=head, vocab=vocab, **settings)
    model = getattr(transformers, ARCHITECTURES[head]).from_pretrained(folder)
    head_layer = model.qa_outputs if head == "question-answering" else model.classifier
    deviation = (2 / dim - 4 / dim**2) ** 0.5  # the standard deviation of a vector with two ones
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(float("norm.weight" in name.lower()))
        embeddings = model.distilbert.embeddings
        embeddings.word_embeddings.weight[:] = torch.eye(len(vocab), dim)
        embeddings.position_embeddings.weight[:, len(vocab)] = 1
        for i, (word, logits) in enumerate([*words.items(), *places.items()]):
            if isinstance(word, int):
                dimension = len(vocab) + 1 + i - len(words)
                embeddings.position_embeddings.weight[word] = torch.eye(dim)[dimension]
            else:
                dimension = vocab.index(word)
            head_layer.weight[:, dimension] = torch.tensor(logits) * deviation
        head_layer.bias[:] = head_layer.weight.sum(1) * 2 / dim / deviation
    model.save_pretrained(folder)
    return folder

"""The heads, which turn the encoder's hidden states into outputs.

Every head takes the hidden states [T, dim] of a pack and P positions, int32 [P], and computes these positions only. The
names of submodules are those of the checkpoint's tensors.
"""

import torch
from torch import Tensor, nn

from distilray.model.network.activations import ACTIVATIONS
from distilray.model.network.config import LAYER_NORM_EPS, Config
from distilray.model.network.names import HeadName
from distilray.model.network.pack import Pack


class TokenClassifier(nn.Module):
    """A linear layer over each token: [P, labels]."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.classifier = nn.Linear(config.dim, len(config.labels))

    def forward(self, hidden: Tensor, positions: Tensor, pack: Pack) -> Tensor:
        logits: Tensor = self.classifier(hidden[positions])
        return logits


class SequenceClassifier(nn.Module):
    """Two layers over [CLS], with ReLU for every activation of the config: [P, outputs]."""

    def __init__(self, config: Config, outputs: int) -> None:
        super().__init__()
        self.pre_classifier = nn.Linear(config.dim, config.dim)
        self.classifier = nn.Linear(config.dim, outputs)

    def forward(self, hidden: Tensor, positions: Tensor, pack: Pack) -> Tensor:
        logits: Tensor = self.classifier(self.pre_classifier(hidden[positions]).relu())
        return logits


class QuestionAnswerer(nn.Module):
    """Logits of the start and of the end of an answer: [P, 2]."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.qa_outputs = nn.Linear(config.dim, 2)

    def forward(self, hidden: Tensor, positions: Tensor, pack: Pack) -> Tensor:
        logits: Tensor = self.qa_outputs(hidden[positions])
        return logits


class MaskedLM(nn.Module):
    """Logits over the vocabulary at the masks: [P, vocab_size]. The projection is most of the cost."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.vocab_transform = nn.Linear(config.dim, config.dim)
        self.vocab_layer_norm = nn.LayerNorm(config.dim, eps=LAYER_NORM_EPS)
        self.vocab_projector = nn.Linear(config.dim, config.vocab_size)
        self.activation = ACTIVATIONS[config.activation]

    def forward(self, hidden: Tensor, positions: Tensor, pack: Pack) -> Tensor:
        x = self.activation(self.vocab_transform(hidden[positions]))
        logits: Tensor = self.vocab_projector(self.vocab_layer_norm(x))
        return logits


class FirstToken(nn.Module):
    """Unchanged hidden states: [P, dim]."""

    def forward(self, hidden: Tensor, positions: Tensor, pack: Pack) -> Tensor:
        return hidden[positions]


class MeanPooling(nn.Module):
    """The mean over all tokens of the sequence around each position, in float32: [P, dim]."""

    def forward(self, hidden: Tensor, positions: Tensor, pack: Pack) -> Tensor:
        if not len(positions):
            return hidden[positions]
        # unsafe: the checks wait for the device, and never fail, because differences of cu_seqlens sum to T
        mean = torch.segment_reduce(hidden.float(), "mean", lengths=pack.cu_seqlens.diff(), axis=0, unsafe=True)
        sequence = torch.searchsorted(pack.cu_seqlens, positions, right=True) - 1
        return mean[sequence]


def make_head(name: HeadName, config: Config) -> nn.Module:
    """Build a head without weights."""
    match name:
        case "token-classification":
            return TokenClassifier(config)
        case "sequence-classification":
            return SequenceClassifier(config, len(config.labels))
        case "multiple-choice":
            return SequenceClassifier(config, 1)
        case "question-answering":
            return QuestionAnswerer(config)
        case "masked-lm":
            return MaskedLM(config)
        case "first-token":
            return FirstToken()
        case "mean-pooling":
            return MeanPooling()

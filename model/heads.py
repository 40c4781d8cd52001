"""The heads: what stands on the encoder's hidden states."""

from torch import Tensor, nn

from distilray.model.attention import Attention
from distilray.model.config import Config
from distilray.model.encoder import Encoder
from distilray.model.packed import Pack


class TokenClassifier(nn.Module):
    """A linear layer over every token's hidden state."""

    def __init__(self, config: Config, attention: Attention) -> None:
        super().__init__()
        self.encoder = Encoder(config, attention)
        self.classifier = nn.Linear(config.dim, len(config.labels))

    def forward(self, pack: Pack) -> Tensor:
        """Logits [T, labels]."""
        logits: Tensor = self.classifier(self.encoder(pack))
        return logits

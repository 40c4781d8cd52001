"""The DistilBERT encoder over packs. Hidden states are [tokens, dim] in every layer."""

from collections.abc import Collection
from itertools import islice

import torch
from torch import Tensor, nn

from distilray.model.network.activations import ACTIVATIONS
from distilray.model.network.attention import Attention
from distilray.model.network.config import LAYER_NORM_EPS, Config
from distilray.model.network.pack import Pack

# On a CPU, the part after attention is computed in blocks of rows. The intermediate of a block, hidden_dim wide, has at
# most this many bytes: it stays in the cache, and the allocator reuses its memory. See docs/performance.md.
BLOCK_BYTES = 12 << 20


class Encoder(nn.Module):
    """Embeddings and post-LN transformer layers (Sanh et al. 2019, arXiv:1910.01108)."""

    def __init__(self, config: Config, attention: Attention) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.dim)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.dim)
        self.LayerNorm = nn.LayerNorm(config.dim, eps=LAYER_NORM_EPS)
        self.layers = nn.ModuleList(Layer(config, attention) for _ in range(config.n_layers))
        self.max_seqlen = config.max_position_embeddings

    def forward(self, pack: Pack, depths: Collection[int]) -> dict[int, Tensor]:
        """Compute the hidden states [T, dim] at the requested depths: 0 is the embeddings, n_layers the last layer.

        Layers above the deepest request are not computed. Raises ValueError if a sequence is longer than the position
        embeddings.
        """
        if pack.max_seqlen > self.max_seqlen:
            raise ValueError(f"expected sequences of at most {self.max_seqlen} tokens, got one of {pack.max_seqlen}")
        x = self.LayerNorm(self.word_embeddings(pack.input_ids) + self.position_embeddings(pack.position_ids))
        hidden = {0: x} if 0 in depths else {}
        for depth, layer in enumerate(islice(self.layers, max(depths, default=0)), 1):
            x = layer(x, pack)
            if depth in depths:
                hidden[depth] = x
        return hidden


class Layer(nn.Module):
    """One transformer layer. The projections of query, key and value are one matrix."""

    def __init__(self, config: Config, attention: Attention) -> None:
        super().__init__()
        self.qkv_lin = nn.Linear(config.dim, 3 * config.dim)
        self.out_lin = nn.Linear(config.dim, config.dim)
        self.sa_layer_norm = nn.LayerNorm(config.dim, eps=LAYER_NORM_EPS)
        self.lin1 = nn.Linear(config.dim, config.hidden_dim)
        self.lin2 = nn.Linear(config.hidden_dim, config.dim)
        self.output_layer_norm = nn.LayerNorm(config.dim, eps=LAYER_NORM_EPS)
        self.activation = ACTIVATIONS[config.activation]
        self.attention = attention.kernel
        self.heads = (3, config.n_heads, config.head_dim)

    def forward(self, x: Tensor, pack: Pack) -> Tensor:
        """Compute the next hidden states: [T, dim] -> [T, dim]."""
        q, k, v = self.qkv_lin(x).view(-1, *self.heads).unbind(1)
        attended = self.attention(q, k, v, pack).flatten(1)
        blocks = attended.tensor_split(self._block_count(x)), x.tensor_split(self._block_count(x))
        results = [self._after_attention(*block) for block in zip(*blocks, strict=True)]
        return results[0] if len(results) == 1 else torch.cat(results)

    def _after_attention(self, attended: Tensor, x: Tensor) -> Tensor:
        """Compute the part of the layer after attention: [rows, dim], [rows, dim] -> [rows, dim]."""
        x = self.sa_layer_norm(self.out_lin(attended).add_(x))
        hidden: Tensor = self.output_layer_norm(self.lin2(self.activation(self.lin1(x))).add_(x))
        return hidden

    def _block_count(self, x: Tensor) -> int:
        intermediate_bytes = len(x) * self.lin1.out_features * x.itemsize
        return 1 if x.is_cuda else max(1, -(-intermediate_bytes // BLOCK_BYTES))

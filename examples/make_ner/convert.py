"""Conversion of the six-layer BERT to a small DistilBERT with a short vocabulary."""

import json
import math
from collections import Counter
from pathlib import Path

import torch
from safetensors.torch import load_file
from shared import LABELS, MODEL
from transformers import (
    AutoTokenizer,
    BertModel,
    DistilBertConfig,
    DistilBertForTokenClassification,
    DistilBertModel,
    PreTrainedTokenizerBase,
)

KEEP_LAYERS, HIDDEN, VOCAB = (0, 2, 5), 512, 5900
DISTILBERT_NAMES = {  # parts of BERT's weight names and their DistilBERT names, replaced in this order
    "encoder.layer": "transformer.layer",
    "attention.self.query": "attention.q_lin",
    "attention.self.key": "attention.k_lin",
    "attention.self.value": "attention.v_lin",
    "attention.output.dense": "attention.out_lin",
    "attention.output.LayerNorm": "sa_layer_norm",
    "intermediate.dense": "ffn.lin1",
    "output.dense": "ffn.lin2",
    "output.LayerNorm": "output_layer_norm",
}


def distilbert_name(key: str) -> str:
    """Convert the name of a weight from BERT to DistilBERT."""
    for old, new in DISTILBERT_NAMES.items():
        key = key.replace(old, new)
    return key


def to_distilbert(folder: Path) -> DistilBertModel:
    """Convert the six-layer BERT of a folder to a DistilBERT that computes the same."""
    bert = load_file(folder / "model.safetensors")
    dropped = ("pooler", "embeddings.token_type", "embeddings.position_ids")
    state = {distilbert_name(key): value for key, value in bert.items() if not key.startswith(dropped)}
    state["embeddings.position_embeddings.weight"] += bert["embeddings.token_type_embeddings.weight"][0]
    model = DistilBertModel(DistilBertConfig(dim=384, hidden_dim=1536, n_heads=12, n_layers=6, pad_token_id=0))
    model.train(False)
    model.load_state_dict(state)
    ids = torch.arange(2000, 2064)[None]
    with torch.no_grad():
        expected = BertModel.from_pretrained(folder).train(False)(ids).last_hidden_state
        assert torch.allclose(model(ids).last_hidden_state, expected, atol=1e-4)
    return model


def short_vocabulary(pieces: list[str], counts: Counter[int]) -> list[int]:
    """Select the old ids to keep, in order.

    They are special tokens, ASCII characters, and pieces that are frequent here or in English in general.
    """
    keep = {pieces.index(p) for p in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")}
    keep |= {i for i, p in enumerate(pieces) if len(p.removeprefix("##")) == 1 and p.isascii()}
    rank_here = {i: rank for rank, (i, _) in enumerate(counts.most_common())}
    whole = [i for i, p in enumerate(pieces) if i > 1995 and p.isascii()]  # BERT sorts these from frequent to rare
    rank_in_english = {i: 1.5 * rank for rank, i in enumerate(whole)}
    for i in sorted(
        rank_here.keys() | rank_in_english.keys(),
        key=lambda i: min(rank_here.get(i, math.inf), rank_in_english.get(i, math.inf)),
    ):
        if len(keep) >= VOCAB:
            break
        keep.add(i)
    return sorted(keep)


def shrink(model: DistilBertModel, keep: list[int], sample: list[torch.Tensor]) -> DistilBertForTokenClassification:
    """Remove pieces, layers, and the feed-forward neurons of each layer that contribute least on the sample."""
    inner = [model.get_submodule(f"transformer.layer.{n}.ffn.lin1") for n in range(6)]
    activation = {lin1: torch.zeros(1536) for lin1 in inner}

    def sum_activation(module: torch.nn.Module, _args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        activation[module] += torch.nn.functional.gelu(output).abs().sum((0, 1))

    for lin1 in inner:
        lin1.register_forward_hook(sum_activation)
    with torch.no_grad():
        for ids in sample:
            model(ids)

    state = model.state_dict()
    small_state = {k: v for k, v in state.items() if k.startswith("embeddings")}
    small_state["embeddings.word_embeddings.weight"] = state["embeddings.word_embeddings.weight"][keep]
    for new, old in enumerate(KEEP_LAYERS):
        prefix = f"transformer.layer.{old}."
        layer = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        contribution = activation[inner[old]] * layer["ffn.lin2.weight"].norm(dim=0)
        best = contribution.topk(HIDDEN).indices.sort().values
        layer["ffn.lin1.weight"], layer["ffn.lin1.bias"] = layer["ffn.lin1.weight"][best], layer["ffn.lin1.bias"][best]
        layer["ffn.lin2.weight"] = layer["ffn.lin2.weight"][:, best]
        small_state |= {f"transformer.layer.{new}.{k}": v for k, v in layer.items()}

    config = DistilBertConfig(
        vocab_size=len(keep),
        dim=384,
        hidden_dim=HIDDEN,
        n_heads=12,
        n_layers=len(KEEP_LAYERS),
        pad_token_id=0,
        id2label=dict(enumerate(LABELS)),
        label2id={x: i for i, x in enumerate(LABELS)},
        dropout=0.0,
        attention_dropout=0.0,
        seq_classif_dropout=0.0,
    )
    small = DistilBertForTokenClassification(config)
    small.distilbert.load_state_dict(small_state)
    return small


def write_tokenizer(pieces: list[str]) -> PreTrainedTokenizerBase:
    """Write the tokenizer of these pieces to the model folder and load it."""
    MODEL.mkdir(parents=True, exist_ok=True)
    (MODEL / "vocab.txt").write_text("".join(piece + "\n" for piece in pieces), encoding="utf-8")
    settings = {"tokenizer_class": "DistilBertTokenizer", "do_lower_case": True, "model_max_length": 402}
    settings |= {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    (MODEL / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    return AutoTokenizer.from_pretrained(MODEL)

"""Transformers' classes of DistilBERT, and which of them a checkpoint is."""

import torch

from distilray.model.checkpoint.formats.names import is_encoder
from distilray.model.checkpoint.weights import Weights, check_weights
from distilray.model.errors import CheckpointError
from distilray.model.network.heads import make_head
from distilray.model.network.names import HeadName

BASE = "DistilBertModel"
HEADS: dict[str, HeadName] = {
    BASE: "first-token",
    "DistilBertForMaskedLM": "masked-lm",
    "DistilBertForSequenceClassification": "sequence-classification",
    "DistilBertForMultipleChoice": "multiple-choice",
    "DistilBertForTokenClassification": "token-classification",
    "DistilBertForQuestionAnswering": "question-answering",
}


def architecture_by_tensors(weights: Weights) -> str | None:
    """The class whose head has the modules that there are beside the encoder, None if no class has those.

    Multiple choice has the modules of sequence classification: it is known by one output where the labels are several.
    """
    found = {name.rpartition(".")[0] for name in weights.tensors if not is_encoder(name)}
    fitting = [architecture for architecture, head in HEADS.items() if _modules(head, weights) == found]
    if "DistilBertForMultipleChoice" in fitting:
        bias = weights.tensors.get("classifier.bias")
        one = bias is not None and len(bias) == 1 and len(weights.config.labels) != 1
        return "DistilBertForMultipleChoice" if one else "DistilBertForSequenceClassification"
    return fitting[0] if fitting else None


def check_architecture(weights: Weights) -> str:
    """The class that config.json names, or else the one that the tensors show, of which everything must be there.

    Raises CheckpointError naming every tensor that is missing, unexpected or of the wrong shape.
    """
    by_tensors = architecture_by_tensors(weights)
    architecture = weights.config.architecture or by_tensors
    if architecture is None:
        rest = ", ".join(sorted(name for name in weights.tensors if not is_encoder(name)))
        raise CheckpointError(f"{weights.where}: config.json names no architecture, and none has {rest}")
    if architecture not in HEADS:
        raise CheckpointError(
            f"{weights.where}: config.json says {architecture}, expected one of {', '.join(HEADS)}; "
            f"the tensors are those of {by_tensors or 'none of them'}"
        )
    check_weights(HEADS[architecture], weights)
    if architecture == BASE and by_tensors != BASE:
        raise CheckpointError(
            f"{weights.where}: config.json says {BASE}, but the tensors are those of {by_tensors}: "
            "name that one under architectures"
        )
    return architecture


def _modules(head: HeadName, weights: Weights) -> set[str]:
    with torch.device("meta"):
        return {name.rpartition(".")[0] for name in make_head(head, weights.config).state_dict()}

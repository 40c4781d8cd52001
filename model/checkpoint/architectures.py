"""Transformers' classes of DistilBERT, and the choice of the class that a checkpoint holds."""

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
    """Return the class whose head has exactly the modules that the checkpoint has beside the encoder, or None.

    Multiple choice has the same modules as sequence classification. A classifier with a single output is multiple choice if
    the config does not have exactly one label.
    """
    modules = {name.rpartition(".")[0] for name in weights.tensors if not is_encoder(name)}
    candidates = [architecture for architecture, head in HEADS.items() if _head_modules(head, weights) == modules]
    if "DistilBertForMultipleChoice" in candidates:
        bias = weights.tensors.get("classifier.bias")
        is_single = bias is not None and len(bias) == 1 and len(weights.config.labels) != 1
        return "DistilBertForMultipleChoice" if is_single else "DistilBertForSequenceClassification"
    return candidates[0] if candidates else None


def check_architecture(weights: Weights) -> str:
    """Return the class that config.json names, or else the class that the tensors fit. Check that its tensors exist.

    Raises CheckpointError if no class matches. Raises CheckpointError with the name of every tensor that is missing,
    unexpected or of the wrong shape.
    """
    by_tensors = architecture_by_tensors(weights)
    architecture = weights.config.architecture or by_tensors
    if architecture is None:
        others = ", ".join(sorted(name for name in weights.tensors if not is_encoder(name)))
        raise CheckpointError(
            f"{weights.where}: expected a class under architectures in config.json, got none, and no known class has the tensors "
            f"{others}; name the class of the checkpoint under architectures"
        )
    if architecture not in HEADS:
        raise CheckpointError(
            f"{weights.where}: config.json names {architecture}, expected one of {', '.join(HEADS)}; "
            f"the tensors are those of {by_tensors or 'none of them'}"
        )
    check_weights(HEADS[architecture], weights)
    if architecture == BASE and by_tensors != BASE:
        raise CheckpointError(
            f"{weights.where}: config.json names {BASE}, but the tensors are those of {by_tensors}: "
            "name that class under architectures"
        )
    return architecture


def _head_modules(head: HeadName, weights: Weights) -> set[str]:
    with torch.device("meta"):
        return {name.rpartition(".")[0] for name in make_head(head, weights.config).state_dict()}

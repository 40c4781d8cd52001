"""The weights of a checkpoint in whichever format they were saved."""

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from distilray.model.checkpoint import WEIGHTS, Checkpoint
from distilray.model.config import CheckpointError
from distilray.model.formats.names import to_torch


def load_tensors(checkpoint: Checkpoint) -> tuple[str, dict[str, Tensor]]:
    """The file that the weights came from, and its tensors by canonical torch names without the `distilbert.` prefix.

    Raises CheckpointError for a file that is missing, broken, or holds anything but float tensors.
    """
    where = checkpoint.where(WEIGHTS)
    try:
        tensors = safetensors.torch.load(checkpoint.require(WEIGHTS))
    except SafetensorError as error:
        raise CheckpointError(f"{where}: not a whole safetensors file ({error})") from error
    return WEIGHTS, to_torch(tensors, where)

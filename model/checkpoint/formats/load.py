"""The weights of a checkpoint in whichever format they were saved."""

from collections.abc import Callable

from torch import Tensor

from distilray.model.checkpoint.checkpoint import INDEX, Checkpoint
from distilray.model.checkpoint.formats.flax import read_flax
from distilray.model.checkpoint.formats.names import Layout, canonical, is_buffer, to_torch
from distilray.model.checkpoint.formats.safetensors import read_safetensors
from distilray.model.checkpoint.formats.torch_pickle import read_torch_pickle
from distilray.model.errors import CheckpointError


def _read_h5(data: bytes, where: str) -> tuple[Layout, dict[str, Tensor]]:
    try:
        from distilray.model.checkpoint.formats.h5 import read_h5  # noqa: PLC0415  an extra
    except ImportError as error:
        raise CheckpointError(f"{where}: TensorFlow weights need h5py: pip install 'distilray[h5]'") from error
    return read_h5(data, where)


_Reader = Callable[[bytes, str], tuple[Layout, dict[str, Tensor]]]
_READERS: dict[str, _Reader] = {
    ".safetensors": read_safetensors,
    ".bin": read_torch_pickle,
    ".h5": _read_h5,
    ".msgpack": read_flax,
}


def load_tensors(checkpoint: Checkpoint) -> tuple[str, dict[str, Tensor]]:
    """The file that the weights came from, and its tensors by canonical torch names without the `distilbert.` prefix.

    Of several files the first in the order of `Checkpoint.weights_file` is taken. Tensors keep their dtype. Raises
    CheckpointError for a file that is missing, broken or more than float tensors, and for a shard that is not what
    the index says.
    """
    file = checkpoint.weights_file
    read = next(read for suffix, read in _READERS.items() if file.removesuffix(INDEX).endswith(suffix))
    if not file.endswith(INDEX):
        where = checkpoint.where(file)
        layout, tensors = read(checkpoint.require(file), where)
        return file, to_torch(tensors, layout, where)
    whole: dict[str, Tensor] = {}
    for shard, names in checkpoint.shards.items():
        part = _shard(checkpoint, shard, names, read)
        if twice := sorted(part.keys() & whole.keys()):
            raise CheckpointError(f"{checkpoint.where(shard)}: also in another shard: {', '.join(twice)}")
        whole |= part
    return file, whole


def _shard(checkpoint: Checkpoint, shard: str, names: tuple[str, ...], read: _Reader) -> dict[str, Tensor]:
    """The tensors of one shard, which must be those that the index promises."""
    where = checkpoint.where(shard)
    layout, tensors = read(checkpoint.require(shard), where)
    part = to_torch(tensors, layout, where)
    promised = {canonical(name, layout) for name in names if not is_buffer(name)}
    for complaint, wrong in (
        ("lacks what the index places there", promised - part.keys()),
        ("holds what the index does not place there", part.keys() - promised),
    ):
        if wrong:
            raise CheckpointError(f"{where} {complaint}: {', '.join(sorted(wrong))}")
    return part

"""Loading of a checkpoint's weights in any format."""

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
    """Read the weights. Return the name of their file, and the tensors by canonical torch names without `distilbert.`.

    `Checkpoint.weights_file` chooses between several files. Tensors keep their dtype. Raises CheckpointError if a
    file is missing, is broken or holds anything but float tensors, or if a shard differs from the index.
    """
    file = checkpoint.weights_file
    read = next(read for suffix, read in _READERS.items() if file.removesuffix(INDEX).endswith(suffix))
    if not file.endswith(INDEX):
        where = checkpoint.where(file)
        layout, tensors = read(checkpoint.require(file), where)
        return file, to_torch(tensors, layout, where)
    merged: dict[str, Tensor] = {}
    for shard, names in checkpoint.shards.items():
        part = _read_shard(checkpoint, shard, names, read)
        if repeated := sorted(part.keys() & merged.keys()):
            raise CheckpointError(
                f"{checkpoint.where(shard)}: expected tensors that no other shard holds, got {', '.join(repeated)}"
            )
        merged |= part
    return file, merged


def _read_shard(checkpoint: Checkpoint, shard: str, names: tuple[str, ...], read: _Reader) -> dict[str, Tensor]:
    """Read the tensors of one shard. Raises CheckpointError if they are not those that the index lists."""
    where = checkpoint.where(shard)
    layout, stored = read(checkpoint.require(shard), where)
    tensors = to_torch(stored, layout, where)
    indexed = {canonical(name, layout) for name in names if not is_buffer(name)}
    for problem, different in (
        ("does not hold tensors that the index lists for it", indexed - tensors.keys()),
        ("holds tensors that the index does not list for it", tensors.keys() - indexed),
    ):
        if different:
            raise CheckpointError(f"{where} {problem}: {', '.join(sorted(different))}")
    return tensors

"""TensorFlow's tf_model.h5: HDF5 with a dataset a weight, in groups named after the layers."""

import io
from collections.abc import Iterator

import h5py
import numpy as np
import torch
from torch import Tensor

from distilray.model.checkpoint.formats.names import Layout, canonical
from distilray.model.errors import CheckpointError


def read_h5(data: bytes, where: str) -> tuple[Layout, dict[str, Tensor]]:
    """Raises CheckpointError naming the file `where` if it is broken, or refers to other files.

    Keras writes a weight that two layers share once for each: equal tensors of one name are one.
    """
    tensors: dict[str, Tensor] = {}
    first: dict[str, str] = {}
    promised = 0
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            for name, dataset in _datasets(file):
                promised += _checked_size(name, dataset)
                if promised > len(data):
                    raise ValueError(f"{name} promises {promised} bytes in a file of {len(data)}")
                tensor, same = _tensor(dataset), first.setdefault(canonical(name, "tf"), name)
                if same == name:
                    tensors[name] = tensor
                elif not torch.equal(tensors[same], tensor):
                    raise ValueError(f"{same} and {name} are one weight with different values")
    except Exception as error:  # h5py raises OSError, RuntimeError, KeyError, ... on broken bytes
        raise CheckpointError(f"{where}: not a whole HDF5 file of weights ({type(error).__name__}: {error})") from error
    return "tf", tensors


def _datasets(file: h5py.File) -> Iterator[tuple[str, h5py.Dataset]]:
    """Every dataset by its path, each once: a broken file's groups may hold each other."""
    groups: list[tuple[str, h5py.Group]] = [("", file)]
    seen = set()
    while groups:
        path, group = groups.pop()
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"{path}{name} is a link")
            item = group[name]
            address = h5py.h5o.get_info(item.id).addr
            if address in seen:
                continue
            seen.add(address)
            if isinstance(item, h5py.Dataset):
                yield path + name, item
            else:
                groups.append((f"{path}{name}/", item))


def _checked_size(name: str, dataset: h5py.Dataset) -> int:
    """Bytes of a dataset that lies in this file as floats, whole."""
    if dataset.shape is None or dataset.dtype.kind != "f" or dataset.dtype.itemsize not in {2, 4, 8}:
        raise ValueError(f"expected 16, 32 or 64 bit floats in {name}, got {dataset.dtype}")
    if dataset.external or dataset.is_virtual:
        raise ValueError(f"{name} lies in another file")
    size, stored = int(dataset.nbytes), int(dataset.id.get_storage_size())
    if stored < size:
        raise ValueError(
            f"{name} of shape {list(dataset.shape)} has {stored} bytes of {size}; if compressed, unpack it"
        )
    return size


def _tensor(dataset: h5py.Dataset) -> Tensor:
    values = np.asarray(dataset[()])
    return torch.from_numpy(np.array(values, dtype=values.dtype.newbyteorder("=")))

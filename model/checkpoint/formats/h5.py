"""The format of TensorFlow's tf_model.h5: HDF5 with a dataset for each weight, in groups named after the layers."""

import io
from collections.abc import Iterator

import h5py
import numpy as np
import torch
from torch import Tensor

from distilray.model.checkpoint.formats.names import Layout, canonical
from distilray.model.errors import CheckpointError


def read_h5(data: bytes, where: str) -> tuple[Layout, dict[str, Tensor]]:
    """Read the tensors of a TensorFlow file.

    Keras writes a shared weight once for each layer that uses it. Such tensors have one canonical name and become one.
    Raises CheckpointError, which names the file `where`, if the file is broken or refers to other files.
    """
    tensors: dict[str, Tensor] = {}
    first_names: dict[str, str] = {}
    declared = 0
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            for name, dataset in _datasets(file):
                declared += _checked_size(name, dataset)
                if declared > len(data):
                    raise ValueError(
                        f"expected at most the {len(data)} bytes of the file, got {declared} declared bytes up to {name}"
                    )
                tensor, first_name = _tensor(dataset), first_names.setdefault(canonical(name, "tf"), name)
                if first_name == name:
                    tensors[name] = tensor
                elif not torch.equal(tensors[first_name], tensor):
                    raise ValueError(
                        f"expected equal values in {first_name} and {name}, which are one weight: the values differ"
                    )
    except Exception as error:  # h5py raises OSError, RuntimeError, KeyError, ... on broken bytes
        raise CheckpointError(
            f"{where}: not a complete HDF5 file of weights ({type(error).__name__}: {error})"
        ) from error
    return "tf", tensors


def _datasets(file: h5py.File) -> Iterator[tuple[str, h5py.Dataset]]:
    """Yield every dataset with its path, once even if groups contain each other, as in a broken file."""
    groups: list[tuple[str, h5py.Group]] = [("", file)]
    visited = set()
    while groups:
        path, group = groups.pop()
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"expected a dataset or a group, {path}{name} is a link")
            item = group[name]
            address = h5py.h5o.get_info(item.id).addr
            if address in visited:
                continue
            visited.add(address)
            if isinstance(item, h5py.Dataset):
                yield path + name, item
            else:
                groups.append((f"{path}{name}/", item))


def _checked_size(name: str, dataset: h5py.Dataset) -> int:
    """Return the bytes of a dataset. Raises ValueError unless it is stored in this file, complete, as floats."""
    if dataset.shape is None or dataset.dtype.kind != "f" or dataset.dtype.itemsize not in {2, 4, 8}:
        raise ValueError(f"expected 16, 32 or 64 bit floats in {name}, got {dataset.dtype}")
    if dataset.external or dataset.is_virtual:
        raise ValueError(f"expected all weights in this file, {name} is stored in another file")
    size, stored = int(dataset.nbytes), int(dataset.id.get_storage_size())
    if stored < size:
        raise ValueError(
            f"{name} of shape {list(dataset.shape)} has {stored} of {size} bytes; "
            "if it is compressed, save it without compression"
        )
    return size


def _tensor(dataset: h5py.Dataset) -> Tensor:
    values = np.asarray(dataset[()])
    return torch.from_numpy(np.array(values, dtype=values.dtype.newbyteorder("=")))

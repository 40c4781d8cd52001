"""The format of torch.save, zip or legacy. Reading runs no code of the file."""

import io
import pickletools
import re
import zipfile

import torch
from torch import Tensor, nn

from distilray.model.checkpoint.formats.names import Layout
from distilray.model.errors import CheckpointError


def read_torch_pickle(data: bytes, where: str) -> tuple[Layout, dict[str, Tensor]]:
    """Read the tensors of a state dict.

    Raises CheckpointError, which names the file `where`, if the file is broken or holds anything but plain tensors.
    """
    try:
        _check_sizes(data)
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch, pickle and zipfile raise many types on broken bytes
        raise CheckpointError(f"{where}: {_error_text(error)}") from error
    if not isinstance(state, dict):
        raise CheckpointError(
            f"{where}: expected a state dict (a map from names to tensors), got {type(state).__name__}"
        )
    return "torch", {_name(key, where): _tensor(key, value, where) for key, value in state.items()}


def _check_sizes(data: bytes) -> None:
    """Reject a file for which torch.load would allocate more memory than the file has bytes.

    Such files are zips that unpack to more bytes than they have, legacy files that declare large storages, and files
    with empty bytearrays.
    """
    if data.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            entries = file.infolist()
        unpacked = sum(entry.file_size for entry in entries)
        if unpacked > len(data) or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError(f"expected a zip without compression, got {len(data)} bytes that unpack to {unpacked}")
    else:
        _check_legacy(data)
    if b"\nbytearray\n" in data:
        raise ValueError("expected only tensors, got a bytearray")


def _check_legacy(data: bytes) -> None:
    """Reject a legacy file that declares more numbers than it has bytes.

    The fourth pickle of the file holds the sizes of the storages, which torch allocates before it reads their content.
    """
    stream = io.BytesIO(data)
    for number in range(4):
        for _, value, _ in pickletools.genops(stream):
            if number == 3 and isinstance(value, int) and value > len(data):
                raise ValueError(f"expected at most {len(data)} numbers in {len(data)} bytes, got a tensor of {value}")


def _error_text(error: Exception) -> str:
    """Describe an error of torch. The message of torch advises the user to run the code."""
    message = str(error)
    if unsafe := re.search(r"GLOBAL (\S+) was not an allowed global|unsupported GLOBAL (\S+)", message):
        return (
            f"expected only tensors: unpickling it would run {unsafe[1] or unsafe[2]}; save the weights as safetensors"
        )
    if "weights_only" in message:
        message = message.partition("WeightsUnpickler error:")[2].strip() or "not a state dict of tensors"
    return f"not a complete torch.save file of plain tensors ({type(error).__name__}: {message.partition(chr(10))[0]})"


def _name(key: object, where: str) -> str:
    if not isinstance(key, str):
        raise CheckpointError(f"{where}: expected a state dict (a map from names to tensors), got {key!r} as a name")
    return key


def _tensor(name: str, value: object, where: str) -> Tensor:
    """Return the plain tensor in `value`, contiguous. Raises CheckpointError if it is anything else."""
    if not isinstance(value, Tensor) or type(value) not in {Tensor, nn.Parameter}:
        actual = type(value).__name__
    elif value.layout != torch.strided or value.device.type != "cpu":
        actual = f"a {value.dtype} {value.layout} tensor on {value.device}"
    elif value.nbytes > value.untyped_storage().nbytes():
        actual = f"{list(value.shape)} from {value.untyped_storage().nbytes()} bytes"
    else:
        return value.detach().contiguous()
    raise CheckpointError(
        f"{where}: expected a state dict (a map from names to complete tensors), got {actual} in {name}"
    )

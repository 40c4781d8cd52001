"""Tests of files of torch.save: no code runs, and only complete dense tensors of floats are loaded."""

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.model.checkpoint.broken import LEGACY, load_error_of_bytes, saved


class Code:
    """An object that runs a command when an unsafe loader unpickles it."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Callable, tuple[str]]:
        return os.system, (self.command,)


@pytest.mark.parametrize("options", [{}, LEGACY], ids=["zip", "legacy"])
def test_code_in_a_pickle_is_an_error_and_does_not_run(options: dict[str, bool], tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    state = {"classifier.bias": torch.zeros(2), "x": Code(f"touch {ran}")}
    message = load_error_of_bytes(saved(state, **options), tmp_path / "pytorch_model.bin")
    assert "unpickling it would run posix.system" in message
    assert "weights_only" not in message  # torch suggests to disable it
    assert not ran.exists()
    torch.load(io.BytesIO(saved(state, **options)), weights_only=False)
    assert ran.exists()  # an unsafe loader runs the code


@pytest.mark.parametrize("options", [{}, LEGACY], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    ("state", "complaint"),
    [
        (torch.nn.Linear(2, 2), "would run torch.nn.modules.linear.Linear"),
        ({"a": np.ones(2)}, "would run numpy"),
        ({"model": {"a": torch.ones(2)}}, "got dict in model"),
        ([torch.ones(2)], "got list"),
        ({1: torch.ones(2)}, "got 1 as a name"),
        ({"a": 1.5}, "got float in a"),
        ({"a": torch.ones(2, 2).to_sparse()}, "torch.sparse_coo"),
        ({"a": torch.ones(2, device="meta")}, "on meta in a"),
        ({"a": torch.ones(1).expand(50, 50)}, "got [50, 50] from 4 bytes in a"),
        ({"a": torch.ones(2, dtype=torch.int64)}, "floats in a, got torch.int64"),
        ({"a": torch.ones(2, dtype=torch.complex64)}, "floats in a, got torch.complex64"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_pickle_of_another_object_is_an_error(
    options: dict[str, bool], state: object, complaint: str, tmp_path: Path
) -> None:
    assert complaint in load_error_of_bytes(saved(state, **options), tmp_path / "pytorch_model.bin")

"""Untrusted checkpoints run no code."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from distilray.model.checkpoint.checkpoint import Checkpoint
from distilray.model.checkpoint.formats.load import load_tensors
from distilray.model.checkpoint.weights import read_weights
from distilray.model.errors import CheckpointError
from tests.support import edit_config, make_checkpoint


class Trap:
    """An object that creates a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.file,)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_with_code_is_an_error(tmp_path: Path, legacy: bool) -> None:
    import torch

    trap = tmp_path / "trapped"
    torch.save(
        {"a": Trap(trap)},
        tmp_path / "pytorch_model.bin",
        _use_new_zipfile_serialization=not legacy,
    )
    with pytest.raises(CheckpointError, match="expected only tensors: unpickling it would run"):
        load_tensors(Checkpoint(str(tmp_path)))
    assert not trap.exists()
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(trap)))
    with pytest.raises(CheckpointError):
        load_tensors(Checkpoint(str(tmp_path)))
    assert not trap.exists()
    pickle.loads((tmp_path / "pytorch_model.bin").read_bytes())
    assert trap.exists()  # the pickle does contain code


def test_the_loader_ignores_code_in_the_layers_of_an_h5_file(tmp_path: Path) -> None:
    code = {"class_name": "Lambda", "config": {"function": ["4wEAAAAAAAAA", None, None]}}
    with h5py.File(tmp_path / "tf_model.h5", "w") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": [code]})
        file["distilbert/embeddings/word_embeddings/weight:0"] = np.zeros((2, 2), np.float32)
    assert len(load_tensors(Checkpoint(str(tmp_path)))[1]) == 1


def test_the_loader_never_imports_code_beside_a_config(tmp_path: Path) -> None:
    make_checkpoint(tmp_path)
    (tmp_path / "modeling_evil.py").write_text(f"open({str(tmp_path / 'trapped')!r}, 'w')\nclass Evil: pass\n")
    auto = {"AutoConfig": "modeling_evil.Evil", "AutoModelForTokenClassification": "modeling_evil.Evil"}
    edit_config(tmp_path, auto_map=auto, trust_remote_code=True, custom_pipelines={"x": {"impl": "modeling_evil.Evil"}})
    assert read_weights(Checkpoint(str(tmp_path))).config.n_layers == 2
    assert not (tmp_path / "trapped").exists()

"""Rivals of the forward pass: the same model in Transformers, ONNX Runtime and OpenVINO, over padded batches.

A rival takes batches of (input_ids, attention_mask), int64 [B, L] each, and returns the logits [B, L, labels] of each.
"""

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from transformers import DistilBertForTokenClassification
from transformers.utils.logging import disable_progress_bar

Batch = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
Rival = Callable[[Sequence[Batch]], list[npt.NDArray[np.float32]]]
_INPUTS = ("input_ids", "attention_mask")
# keeps models alive: one that OpenVINO frees while Python holds its lock may wait for its own threads forever
_COMPILED: list[Any] = []
_NEEDED = ("onnx", "onnxruntime", "openvino")
disable_progress_bar()


def check_installed() -> None:
    """Raise SystemExit that names the missing packages, because the benchmark needs all rivals."""
    if missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
        raise SystemExit(
            f"expected the packages {', '.join(_NEEDED)}, did not find {', '.join(missing)}: "
            "pip install 'distilray[bench]' (or make bench)"
        )


def padded(texts: Sequence[Tensor], size: int) -> list[Batch]:
    """Make batches of `size` texts in their order, each padded to its longest."""
    batches = []
    for first in range(0, len(texts), size):
        part = texts[first : first + size]
        ids = nn.utils.rnn.pad_sequence(list(part), batch_first=True)
        lengths = torch.tensor([len(text) for text in part])
        batches.append((ids.numpy(), (torch.arange(ids.shape[1]) < lengths[:, None]).long().numpy()))
    return batches


def transformers_rival(folder: str, dtype: torch.dtype) -> Rival:
    """Make a rival of PyTorch with SDPA, the default of Transformers."""
    model = DistilBertForTokenClassification.from_pretrained(folder, dtype=dtype).eval()

    @torch.inference_mode()
    def run(batches: Sequence[Batch]) -> list[npt.NDArray[np.float32]]:
        tensors = (dict(zip(_INPUTS, map(torch.from_numpy, batch), strict=True)) for batch in batches)
        return [model(**inputs).logits.float().numpy() for inputs in tensors]

    return run


def onnx_rival(folder: str, threads: int) -> Rival:
    """Make a float32 rival: exported by torch, fused by ONNX Runtime's transformers optimizer, all optimisations on."""
    import onnxruntime as ort  # noqa: PLC0415  check_installed reports it if it is missing
    from onnxruntime.transformers.optimizer import optimize_model  # noqa: PLC0415

    model = _Logits(folder)
    file = str(Path(folder, "model.onnx"))
    axes = {name: {0: "batch", 1: "length"} for name in (*_INPUTS, "logits")}
    torch.onnx.export(
        model,
        _example(),
        file,
        input_names=list(_INPUTS),
        output_names=["logits"],
        dynamic_axes=axes,
        opset_version=17,
        dynamo=False,  # the newer exporter takes twelve times as long to give the same fused graph
    )
    config = model.model.config
    fused = optimize_model(file, "bert", num_heads=config.n_heads, hidden_size=config.dim, opt_level=0, use_gpu=False)
    fused.save_model_to_file(file)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda batches: [session.run(None, dict(zip(_INPUTS, batch, strict=True)))[0] for batch in batches]


def openvino_rivals(folder: str, threads: int, precision: str) -> dict[str, Rival]:
    """Make rivals compiled for latency and for throughput. precision: f32 or bf16."""
    import openvino as ov  # noqa: PLC0415  check_installed reports it if it is missing

    model = ov.convert_model(_Logits(folder), example_input=_example())
    rivals = {}
    for hint in ("LATENCY", "THROUGHPUT"):
        options = {
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": hint,
            "INFERENCE_PRECISION_HINT": precision,
        }
        _COMPILED.append(ov.Core().compile_model(model, "CPU", options))
        rivals[hint.lower()] = _queue(ov, _COMPILED[-1])
    return rivals


def _queue(ov: Any, compiled: Any) -> Rival:
    """Make a rival that runs as many requests at once as OpenVINO chooses."""

    def run(batches: Sequence[Batch]) -> list[npt.NDArray[np.float32]]:
        logits: list[npt.NDArray[np.float32]] = [np.empty(0, np.float32)] * len(batches)
        requests = ov.AsyncInferQueue(compiled)
        requests.set_callback(lambda request, i: logits.__setitem__(i, request.get_output_tensor().data.copy()))
        for i, batch in enumerate(batches):
            requests.start_async(list(batch), i)
        requests.wait_all()
        return logits

    return run


class _Logits(nn.Module):
    """The model in the form that exporters need: positional inputs, one output."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.model = DistilBertForTokenClassification.from_pretrained(folder).eval()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        logits: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
        return logits


def _example() -> tuple[Tensor, Tensor]:
    mask = torch.ones(2, 16, dtype=torch.int64)
    mask[1, 9:] = 0
    return torch.randint(0, 100, (2, 16)), mask

"""Benchmark of torch.compile and CUDA graphs for the encoder: a part of benchmarks/gpu.py.

The encoder computes the packs of the corpus, which are already on the device. The variants are:
  - plain, and compiled for any shape;
  - with filler sequences that give every pack one fixed shape: plain, compiled, as a CUDA graph, and as a CUDA graph of
    the compiled encoder.
Only real tokens count. Each variant is first compared with the plain pass.
"""

import time
from collections.abc import Callable
from functools import partial
from types import FunctionType
from typing import Any

import numpy as np
import torch
from gpu_setup import Setup, in_turn, seconds
from torch import Tensor

from distilray.model.arrays import budget_slices, offsets_of
from distilray.model.checkpoint.weights import load_encoder
from distilray.model.inference.transfer import send
from distilray.model.network.attention import choose_attention
from distilray.model.network.encoder import Encoder
from distilray.model.network.pack import Pack, make_pack

Encode = Callable[[Tensor, Tensor, Tensor], Tensor]
Figures = dict[str, Any]
_LONGEST = 512
_MAX_ERROR = {torch.float16: 1e-2, torch.bfloat16: 5e-2}


def variants(setup: Setup, repeats: int, budget: int = 65_536) -> Figures:
    on_gpu = setup.device.type == "cuda"
    figures: Figures = {}
    for dtype in (torch.float16, torch.bfloat16) if on_gpu else (torch.bfloat16,):
        name = str(dtype).removeprefix("torch.")
        kernel = "auto" if on_gpu else "packed"
        figures[name] = _measure(setup, dtype, kernel, repeats, 1024 if setup.quick else budget)
    return figures


def _measure(setup: Setup, dtype: torch.dtype, kernel: str, repeats: int, budget: int) -> Figures:
    encode = _encoder(setup, dtype, kernel)
    plain = packs(setup, budget, fixed=False)
    fixed = packs(setup, budget, fixed=True)
    compiler = "eager" if setup.quick else "inductor"
    ways: dict[str, tuple[list[Pack], Callable[[], Encode]]] = {
        "plain": (plain, lambda: encode),
        "compiled, any shape": (plain, lambda: torch.compile(copy_function(encode), dynamic=True, backend=compiler)),
        "fixed shape": (fixed, lambda: encode),
        "fixed shape, compiled": (fixed, lambda: torch.compile(copy_function(encode), dynamic=False, backend=compiler)),
        "fixed shape, CUDA graph": (fixed, lambda: as_cuda_graph(encode, fixed[0])),
        "fixed shape, compiled, CUDA graph": (
            fixed,
            lambda: as_cuda_graph(torch.compile(copy_function(encode), dynamic=False, backend=compiler), fixed[0]),
        ),
    }
    rivals: dict[str, Callable[[], object]] = {}
    figures: Figures = {}
    for name, (pack_list, make) in ways.items():
        start = time.perf_counter()
        try:
            way = make()
            error = max(_error(way, encode, pack) for pack in (pack_list[0], pack_list[-1]))
            seconds(partial(run_packs, way, pack_list), setup.device)
        except Exception as why:  # the figures record a variant that this torch cannot run; the others still count
            figures[name] = {"failed": f"{type(why).__name__}: {why}"[:500]}
            print(f"{dtype} {name}: {figures[name]['failed']}")
            continue
        figures[name] = {"error": error, "first_seconds": time.perf_counter() - start}
        if error > _MAX_ERROR[dtype]:
            raise RuntimeError(
                f"{name}: expected a relative error of at most {_MAX_ERROR[dtype]} to the plain pass, got {error:.2g}"
            )
        rivals[name] = partial(run_packs, way, pack_list)
    for name, spent in in_turn(rivals, setup.device, repeats).items():
        rate = figures[name]["tokens_per_second"] = setup.tokens / spent
        times = rate / figures["plain"]["tokens_per_second"]
        print(f"{dtype} {name:36} {rate:12,.0f} tokens/s {times:6.2f}x, first {figures[name]['first_seconds']:.0f} s")
    computed = sum(pack.input_ids.numel() for pack in fixed)
    return {"ways": figures, "budget": budget, "fixed_tokens_per_real_token": computed / setup.tokens}


def _encoder(setup: Setup, dtype: torch.dtype, kernel: str) -> Encode:
    """Make a function from tensors to last hidden states. Nothing in it depends on the lengths, so it compiles once."""
    config = setup.weights.config
    chosen = choose_attention("auto", setup.device, dtype, config.head_dim)
    if kernel == "auto" and chosen.name == "sdpa":
        raise RuntimeError(f"expected a packed kernel, got {chosen.name}: {chosen.reason}")
    encoder: Encoder = load_encoder(setup.weights, chosen, dtype).to(setup.device)
    depths = {config.n_layers}

    def encode(input_ids: Tensor, position_ids: Tensor, cu_seqlens: Tensor) -> Tensor:
        # without a packed kernel all tokens are one group of short sequences, only to run the code of this module
        groups = () if kernel == "auto" else ((0, input_ids.shape[0] // 16, 16),)
        pack = Pack(input_ids, position_ids, cu_seqlens, _LONGEST, groups)
        return encoder(pack, depths)[config.n_layers]

    return encode


def packs(setup: Setup, budget: int, *, fixed: bool) -> list[Pack]:
    """Make the packs of the corpus on the device.

    fixed: all packs have `budget` tokens and the same number of sequences. Sequences of at most 512 tokens fill a pack;
    the last of them may be empty.
    """
    order = np.argsort(setup.sequences.lengths, kind="stable")
    ordered = setup.sequences.take(order)
    ids, cu = ordered.assemble(setup.pool, setup.tokenizer.specials), offsets_of(ordered.lengths)
    parts = list(budget_slices(ordered.lengths, budget))
    fillers = [_filler(budget - int(cu[part.stop] - cu[part.start])) for part in parts]
    most = max(part.stop - part.start + len(filler) for part, filler in zip(parts, fillers, strict=True))
    out = []
    for part, filler in zip(parts, fillers, strict=True):
        pack_ids, lengths = ids[cu[part.start] : cu[part.stop]], ordered.lengths[part]
        if fixed:
            empty = np.zeros(most - len(lengths) - len(filler), dtype=np.int64)
            lengths = np.concatenate([lengths, filler, empty])
            pack_ids = np.pad(pack_ids, (0, budget - len(pack_ids)), constant_values=setup.tokenizer.specials.sep_id)
        elif setup.device.type == "cpu":  # a multiple of 16, see _encoder
            pack_ids, lengths = pack_ids[: len(pack_ids) // 16 * 16], np.full(len(pack_ids) // 16, 16)
        out.append(send(make_pack(pack_ids, lengths), [], setup.device)[0])
    return out


def _filler(tokens: int) -> np.ndarray:
    return np.array([_LONGEST] * (tokens // _LONGEST) + [tokens % _LONGEST], dtype=np.int64)


def as_cuda_graph(encode: Encode, like: Pack) -> Encode:
    """Capture a CUDA graph of one shape. Each call overwrites the output of the previous call."""
    if not like.input_ids.is_cuda:
        raise RuntimeError(f"expected a CUDA device for CUDA graphs, got {like.input_ids.device}")
    static_inputs = [tensor.clone() for tensor in (like.input_ids, like.position_ids, like.cu_seqlens)]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # the graph must not contain the allocations and compilations of the first calls
        for _ in range(3):
            encode(*static_inputs)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = encode(*static_inputs)

    def replay(*tensors: Tensor) -> Tensor:
        for static, tensor in zip(static_inputs, tensors, strict=True):
            static.copy_(tensor)
        graph.replay()
        return out

    return replay


def copy_function(encode: Encode) -> Encode:
    """Copy a function with its code object: torch caches compiled code by code object, and variants must differ."""
    assert isinstance(encode, FunctionType)
    return FunctionType(encode.__code__.replace(), encode.__globals__, "encode", None, encode.__closure__)


def run_packs(encode: Encode, pack_list: list[Pack]) -> None:
    for pack in pack_list:
        encode(pack.input_ids, pack.position_ids, pack.cu_seqlens)


def _error(way: Encode, plain: Encode, pack: Pack) -> float:
    inputs = (pack.input_ids, pack.position_ids, pack.cu_seqlens)
    output, expected = way(*inputs).float(), plain(*inputs).float()
    return float((output - expected).norm() / expected.norm())

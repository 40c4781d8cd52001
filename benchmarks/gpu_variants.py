"""Would torch.compile or CUDA graphs make the encoder faster? Part of benchmarks/gpu.py.

The encoder over the corpus's packs, already on the device: as it is; compiled for any shape; and, with every pack filled up
to one fixed shape by sequences that nobody reads, as it is, compiled, as a CUDA graph, and as a graph of the compiled one.
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
_CLOSE = {torch.float16: 1e-2, torch.bfloat16: 5e-2}


def variants(setup: Setup, repeats: int, budget: int = 65_536) -> Figures:
    on_gpu = setup.device.type == "cuda"
    found: Figures = {}
    for dtype in (torch.float16, torch.bfloat16) if on_gpu else (torch.bfloat16,):
        name = str(dtype).removeprefix("torch.")
        kernel = "auto" if on_gpu else "packed"
        found[name] = _measure(setup, dtype, kernel, repeats, 1024 if setup.quick else budget)
    return found


def _measure(setup: Setup, dtype: torch.dtype, kernel: str, repeats: int, budget: int) -> Figures:
    encode = _encoder(setup, dtype, kernel)
    plain = packs(setup, budget, fixed=False)
    fixed = packs(setup, budget, fixed=True)
    compiler = "eager" if setup.quick else "inductor"
    ways: dict[str, tuple[list[Pack], Callable[[], Encode]]] = {
        "plain": (plain, lambda: encode),
        "compiled, any shape": (plain, lambda: torch.compile(own(encode), dynamic=True, backend=compiler)),
        "fixed shape": (fixed, lambda: encode),
        "fixed shape, compiled": (fixed, lambda: torch.compile(own(encode), dynamic=False, backend=compiler)),
        "fixed shape, CUDA graph": (fixed, lambda: graphed(encode, fixed[0])),
        "fixed shape, compiled, CUDA graph": (
            fixed,
            lambda: graphed(torch.compile(own(encode), dynamic=False, backend=compiler), fixed[0]),
        ),
    }
    rivals: dict[str, Callable[[], object]] = {}
    made: Figures = {}
    for name, (given, make) in ways.items():
        start = time.perf_counter()
        try:
            way = make()
            error = max(_error(way, encode, pack) for pack in (given[0], given[-1]))
            seconds(partial(over, way, given), setup.device)
        except Exception as why:  # a variant that this torch cannot do is a finding, and the others still count
            made[name] = {"failed": f"{type(why).__name__}: {why}"[:500]}
            print(f"{dtype} {name}: {made[name]['failed']}")
            continue
        made[name] = {"error": error, "first_seconds": time.perf_counter() - start}
        if error > _CLOSE[dtype]:
            raise RuntimeError(f"{name}: relative error {error:.2g} against the plain pass, expected {_CLOSE[dtype]}")
        rivals[name] = partial(over, way, given)
    for name, spent in in_turn(rivals, setup.device, repeats).items():
        rate = made[name]["tokens_per_second"] = setup.tokens / spent
        times = rate / made["plain"]["tokens_per_second"]
        print(f"{dtype} {name:36} {rate:12,.0f} tokens/s {times:6.2f}x, first {made[name]['first_seconds']:.0f} s")
    computed = sum(pack.input_ids.numel() for pack in fixed)
    return {"ways": made, "budget": budget, "fixed_tokens_per_real_token": computed / setup.tokens}


def _encoder(setup: Setup, dtype: torch.dtype, kernel: str) -> Encode:
    """The last hidden states of tensors, with nothing that depends on the lengths: what can be compiled once."""
    config = setup.weights.config
    chosen = choose_attention("auto", setup.device, dtype, config.head_dim)
    if kernel == "auto" and chosen.name == "sdpa":
        raise RuntimeError(f"variants need a packed kernel: {chosen.reason}")
    encoder: Encoder = load_encoder(setup.weights, chosen, dtype).to(setup.device)
    depths = {config.n_layers}

    def encode(input_ids: Tensor, position_ids: Tensor, cu_seqlens: Tensor) -> Tensor:
        # where there is no packed kernel, all tokens are one group of short sequences: only to run this file's logic
        groups = () if kernel == "auto" else ((0, input_ids.shape[0] // 16, 16),)
        pack = Pack(input_ids, position_ids, cu_seqlens, _LONGEST, groups)
        return encoder(pack, depths)[config.n_layers]

    return encode


def packs(setup: Setup, budget: int, *, fixed: bool) -> list[Pack]:
    """The corpus in packs on the device; fixed: all of `budget` tokens and of as many sequences.

    A pack is filled up with sequences of at most 512 tokens; the last of them may be empty.
    """
    order = np.argsort(setup.sequences.lengths, kind="stable")
    laid = setup.sequences.take(order)
    ids, cu = laid.assemble(setup.pool, setup.tokenizer.specials), offsets_of(laid.lengths)
    parts = list(budget_slices(laid.lengths, budget))
    fillers = [_filler(budget - int(cu[part.stop] - cu[part.start])) for part in parts]
    most = max(part.stop - part.start + len(filler) for part, filler in zip(parts, fillers, strict=True))
    found = []
    for part, filler in zip(parts, fillers, strict=True):
        given, lengths = ids[cu[part.start] : cu[part.stop]], laid.lengths[part]
        if fixed:
            empty = np.zeros(most - len(lengths) - len(filler), dtype=np.int64)
            lengths = np.concatenate([lengths, filler, empty])
            given = np.pad(given, (0, budget - len(given)), constant_values=setup.tokenizer.specials.sep_id)
        elif setup.device.type == "cpu":  # a multiple of 16, see _encoder
            given, lengths = given[: len(given) // 16 * 16], np.full(len(given) // 16, 16)
        found.append(send(make_pack(given, lengths), [], setup.device)[0])
    return found


def _filler(tokens: int) -> np.ndarray:
    return np.array([_LONGEST] * (tokens // _LONGEST) + [tokens % _LONGEST], dtype=np.int64)


def graphed(encode: Encode, like: Pack) -> Encode:
    """A CUDA graph of one shape; its output is overwritten by the next call."""
    if not like.input_ids.is_cuda:
        raise RuntimeError("CUDA graphs need a CUDA device")
    given = [tensor.clone() for tensor in (like.input_ids, like.position_ids, like.cu_seqlens)]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # what is allocated or compiled at the first calls stays out of the graph
        for _ in range(3):
            encode(*given)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = encode(*given)

    def replay(*tensors: Tensor) -> Tensor:
        for kept, tensor in zip(given, tensors, strict=True):
            kept.copy_(tensor)
        graph.replay()
        return out

    return replay


def own(encode: Encode) -> Encode:
    """A copy with a code object of its own: compiled code is kept by code object, and each variant needs its own."""
    assert isinstance(encode, FunctionType)
    return FunctionType(encode.__code__.replace(), encode.__globals__, "encode", None, encode.__closure__)


def over(encode: Encode, given: list[Pack]) -> None:
    for pack in given:
        encode(pack.input_ids, pack.position_ids, pack.cu_seqlens)


def _error(way: Encode, plain: Encode, pack: Pack) -> float:
    given = (pack.input_ids, pack.position_ids, pack.cu_seqlens)
    ours, wanted = way(*given).float(), plain(*given).float()
    return float((ours - wanted).norm() / wanted.norm())

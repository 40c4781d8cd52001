"""Tests of the predictor: the order of sequences, the packs and other sequences do not change its outputs."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from distilray.model.arrays import Ints, offsets_of, ragged_ranges
from distilray.model.checkpoint.checkpoint import Checkpoint
from distilray.model.checkpoint.weights import Weights, read_weights
from distilray.model.inference import predictor as module
from distilray.model.inference.predictor import HeadSpec, Predictor
from distilray.model.inference.requests import HeadRequest, OutputPositions, first_positions
from distilray.model.inference.sequences import Sequences, pair, single
from distilray.model.network.names import HeadName
from distilray.model.network.pack import Pack
from distilray.model.tokenizer.tokens import SpecialTokenIds
from tests.model.parity import CASES, GATES, OPTIONS_16_BIT, VOCABULARY, Batch, assert_parity, hf_outputs
from tests.support import HeadKind, edit_tensors, make_checkpoint

SPECIALS = SpecialTokenIds(cls_id=2, sep_id=3)
TINY = {"layers": 2, "dim": 16, "heads": 2, "hidden_dim": 24, "positions": 64}
POOL = np.random.default_rng(0).integers(0, VOCABULARY, 60)
CLOSE = 1e-4

# several tasks on one encoder: the head, the kind of its checkpoint, and the layer that the head reads
HEADS: tuple[tuple[HeadName, HeadKind, int], ...] = (
    ("token-classification", "token-classification", 2),
    ("masked-lm", "masked-lm", 2),
    ("mean-pooling", "base", 1),
    ("first-token", "base", 0),
)


@dataclass(frozen=True)
class Tasks:
    """Four heads whose checkpoints have one encoder."""

    weights: list[Weights]

    def predictor(self, tokens_per_pack: int | None = None) -> Predictor:
        heads = [HeadSpec(name, weights, depth) for (name, _, depth), weights in zip(HEADS, self.weights, strict=True)]
        return Predictor(self.weights[0], heads, SPECIALS, "float32", "sdpa", tokens_per_pack)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Tasks:
    folders = [make_checkpoint(tmp_path_factory.mktemp(kind), head=kind, **TINY) for _, kind, _ in HEADS]
    return Tasks([read_weights(Checkpoint(str(folder))) for folder in folders])


@pytest.fixture(scope="module")
def predictors(tasks: Tasks) -> dict[int, Predictor]:
    return {budget: tasks.predictor(budget) for budget in (1, 7, 40, 100_000)}


@st.composite
def slices(draw: st.DrawFn, longest: int = 25) -> tuple[int, int]:
    length = draw(st.integers(0, longest))
    return draw(st.integers(0, len(POOL) - length)), length


@st.composite
def sequences(draw: st.DrawFn) -> Sequences:
    """Draw any number of texts and pairs. Some occur twice."""
    rows = draw(st.lists(st.tuples(slices(), st.just((0, -1)) | slices()), max_size=6))
    rows += draw(st.lists(st.sampled_from(rows), max_size=2)) if rows else []
    return pair(*np.array(rows, dtype=np.int64).reshape(-1, 4).T)


@st.composite
def positions_of(draw: st.DrawFn, lengths: list[int]) -> OutputPositions:
    """Draw runs of positions in any order. Runs may overlap, be equal or empty, and omit sequences."""
    runs = []
    for sequence in draw(st.lists(st.integers(0, len(lengths) - 1), max_size=8)) if lengths else []:
        start = draw(st.integers(0, lengths[sequence]))
        runs.append((sequence, start, draw(st.integers(0, lengths[sequence] - start))))
    return OutputPositions(*np.array(runs, dtype=np.int64).reshape(-1, 3).T)


def alone(predictor: Predictor, inputs: Sequences, requests: Sequence[HeadRequest]) -> list[np.ndarray]:
    """Compute the outputs of each sequence alone and in full, then slice them into the requested runs."""
    whole = []
    for number, length in enumerate(inputs.lengths):
        every = HeadRequest(
            OutputPositions(np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64), np.array([length]))
        )
        whole.append([out for (out,) in predictor(POOL, inputs.take(np.array([number])), [every] * len(requests))])
    runs = [zip(r.positions.sequence, r.positions.start, r.positions.length, strict=True) for r in requests]
    outputs = [[whole[i][head][start : start + n] for i, start, n in runs[head]] for head in range(len(requests))]
    return [np.concatenate(parts) if parts else np.zeros((0, 0)) for parts in outputs]


@settings(max_examples=25)
@given(st.data())
def test_outputs_are_in_the_order_of_the_request(predictors: dict[int, Predictor], data: st.DataObject) -> None:
    inputs = data.draw(sequences())
    predictor = predictors[data.draw(st.sampled_from(list(predictors)))]
    requests = [HeadRequest(data.draw(positions_of(inputs.lengths.tolist()))) for _ in HEADS]
    before = predictor.computed_tokens
    outputs = predictor(POOL, inputs, requests)
    assert predictor.computed_tokens - before == inputs.lengths.sum()
    for (actual,), expected, request in zip(outputs, alone(predictors[1], inputs, requests), requests, strict=True):
        assert len(actual) == request.positions.length.sum()
        assert actual.dtype == np.float32
        assert not len(expected) or np.abs(actual - expected).max() <= CLOSE


@given(st.data())
@settings(max_examples=25)
def test_a_reduction_gets_outputs_and_their_numbers(predictors: dict[int, Predictor], data: st.DataObject) -> None:
    """The results of the reduction are in order and keep their dtype and shape."""
    inputs = data.draw(sequences())
    predictor = predictors[data.draw(st.sampled_from(list(predictors)))]
    at_once = data.draw(st.sampled_from([None, 1, 3]))
    plain = [HeadRequest(data.draw(positions_of(inputs.lengths.tolist())), at_once=at_once) for _ in HEADS]

    def reduce(logits: Tensor, numbers: Ints) -> tuple[Tensor, ...]:
        assert logits.dtype == torch.float32
        return logits.argmax(-1), torch.from_numpy(numbers), logits[:, :2]

    reduced = predictor(POOL, inputs, [replace(request, reduce=reduce) for request in plain])
    for (logits,), (best, numbers, two) in zip(predictor(POOL, inputs, plain), reduced, strict=True):
        assert np.array_equal(best, logits.argmax(-1))
        assert numbers.tolist() == list(range(len(logits)))
        assert np.array_equal(two, logits[:, :2])


def test_no_sequences_give_no_outputs_of_the_usual_shape(tasks: Tasks) -> None:
    nothing = np.zeros(0, dtype=np.int64)
    predictor = tasks.predictor()
    outputs = predictor(nothing, single(nothing, nothing), [HeadRequest(first_positions(0))] * len(HEADS))
    assert [output.shape for (output,) in outputs] == [(0, 7), (0, VOCABULARY), (0, 16), (0, 16)]
    assert predictor.computed_tokens == 0


def test_no_layer_is_computed_for_heads_that_read_the_embeddings(tasks: Tasks) -> None:
    predictor = Predictor(tasks.weights[3], [HeadSpec("first-token", tasks.weights[3], 0)], SPECIALS, "float32")
    computed: list[int] = []
    for number, layer in enumerate(predictor.encoder.layers, 1):
        layer.register_forward_hook(lambda *_, number=number: computed.append(number))
    inputs = single(np.array([0]), np.array([5]))
    predictor(POOL, inputs, [HeadRequest(first_positions(1))])
    assert not computed
    predictor.depths = [1]
    predictor(POOL, inputs, [HeadRequest(first_positions(1))])
    assert computed == [1]


def all_tokens(inputs: Sequences) -> OutputPositions:
    """Return the positions of all tokens of every text, without [CLS] and [SEP]."""
    return OutputPositions(np.arange(len(inputs.first)), np.ones_like(inputs.length), inputs.length)


def logits_of(folder: Path, ids: Ints, lengths: Ints, attention: str = "sdpa", **options: object) -> Tensor:
    weights = read_weights(Checkpoint(str(folder)))
    head = HeadSpec("token-classification", weights, weights.config.n_layers)
    inputs = single(offsets_of(lengths)[:-1], lengths)
    predictor = Predictor(weights, [head], SPECIALS, attention=attention, **options)
    return torch.from_numpy(predictor(ids, inputs, [HeadRequest(all_tokens(inputs))])[0][0])


def expected_logits(folder: Path, ids: Ints, lengths: Ints) -> Tensor:
    """Compute Transformers' logits of the same texts in the same order, with [CLS] and [SEP] around each."""
    alone = [np.concatenate([[2], ids[a : a + n], [3]]) for a, n in zip(offsets_of(lengths)[:-1], lengths, strict=True)]
    batch = Batch(np.concatenate(alone), lengths + 2)
    inner = ragged_ranges(offsets_of(lengths + 2)[:-1] + 1, lengths)
    return hf_outputs(folder, CASES["token-classification"], batch)[inner]


LENGTHS = np.random.default_rng(5).permutation(np.append(np.random.default_rng(6).integers(1, 120, 20), [1, 1, 510]))
IDS = np.random.default_rng(7).integers(5, VOCABULARY, LENGTHS.sum())


@pytest.mark.parametrize("tokens_per_pack", [1, 64, 700, None])
def test_texts_of_any_length_in_packs_of_any_size_equal_transformers(
    checkpoint: Path, tokens_per_pack: int | None
) -> None:
    actual = logits_of(checkpoint, IDS, LENGTHS, dtype="float32", tokens_per_pack=tokens_per_pack)
    assert_parity(actual, expected_logits(checkpoint, IDS, LENGTHS))


def test_the_parity_check_detects_outputs_in_the_wrong_order(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutation leaves the outputs in the order of the pack."""
    within = module._OutputBuffer.within
    monkeypatch.setattr(module._OutputBuffer, "within", lambda *args: [(at, np.sort(n)) for at, n in within(*args)])
    with pytest.raises(AssertionError):
        assert_parity(logits_of(checkpoint, IDS, LENGTHS, dtype="float32"), expected_logits(checkpoint, IDS, LENGTHS))


@contextmanager
def memory_of(predictor: Predictor, most: Callable[[], int]) -> Iterator[list[int]]:
    """Raise OutOfMemoryError for packs of more than `most` tokens. Yield the sizes of all packs."""
    pack_sizes: list[int] = []

    def record(_: object, args: tuple[Pack, object]) -> None:
        pack_sizes.append(args[0].input_ids.numel())
        if pack_sizes[-1] > most():
            raise torch.OutOfMemoryError("no more memory")

    with predictor.encoder.register_forward_pre_hook(record):
        yield pack_sizes


MANY = single(np.arange(300) % 30, np.random.default_rng(1).integers(0, 30, 300))


def test_the_predictor_halves_packs_that_do_not_fit_and_loses_no_row(
    tasks: Tasks, caplog: pytest.LogCaptureFixture
) -> None:
    predictor = tasks.predictor(2000)
    requests = [HeadRequest(first_positions(300))] * len(HEADS)
    expected = tasks.predictor(2000)(POOL, MANY, requests)
    with memory_of(predictor, lambda: 600) as pack_sizes:
        actual = predictor(POOL, MANY, requests)
    assert sum(size > 600 for size in pack_sizes) == 2  # 2000 and 1000; from then on 500
    for (a,), (b,) in zip(actual, expected, strict=True):
        assert np.abs(a - b).max() <= CLOSE
    assert predictor.computed_tokens == MANY.lengths.sum()
    assert "do not fit in the memory of cpu" in caplog.text
    with memory_of(predictor, lambda: 2000) as pack_sizes:
        predictor(POOL, MANY, requests)
    assert max(pack_sizes) > 1900  # earlier calls do not matter


def test_earlier_calls_do_not_change_the_outputs(tasks: Tasks) -> None:
    """All bits are equal, so that a unit that another worker computes again gives the same file."""
    worker, fresh = tasks.predictor(2000), tasks.predictor(2000)
    requests = [HeadRequest(all_tokens(MANY))] * len(HEADS)
    few = MANY.take(np.arange(40))
    with memory_of(worker, lambda: 300) as pack_sizes:
        worker(POOL, few, [HeadRequest(all_tokens(few))] * len(HEADS))
    assert max(pack_sizes) > 300
    with memory_of(worker, lambda: 1500) as pack_sizes, memory_of(fresh, lambda: 1500) as others:
        actual, expected = worker(POOL, MANY, requests), fresh(POOL, MANY, requests)
    assert pack_sizes == others
    assert all(np.array_equal(a, b) for (a,), (b,) in zip(actual, expected, strict=True))


def test_a_sequence_that_does_not_fit_alone_is_an_error(tasks: Tasks) -> None:
    predictor = tasks.predictor(2000)
    with (
        memory_of(predictor, lambda: 30),
        pytest.raises(module.DeviceMemoryError, match="single sequence of 31 tokens does not fit in the memory of cpu"),
    ):
        predictor(POOL, MANY, [HeadRequest(first_positions(300))] * len(HEADS))


def test_logits_that_are_not_finite_are_an_error(tmp_path: Path) -> None:
    """An fp16 overflow must not become an answer."""
    folder = make_checkpoint(tmp_path, **TINY)
    edit_tensors(folder, lambda tensors: tensors["classifier.weight"].fill_(6e4))
    with pytest.raises(FloatingPointError, match="NaN, infinite or huge logits on .*float16.*; try dtype bfloat16"):
        logits_of(folder, POOL, np.array([5]), dtype="float16")


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), 3e38, -3e38])
def test_a_nan_infinite_or_huge_output_is_an_error(tmp_path: Path, value: float) -> None:
    """Two logits of 3e38 are finite, but a score computed from both is NaN."""
    folder = make_checkpoint(tmp_path, **TINY)
    edit_tensors(folder, lambda tensors: tensors["classifier.bias"][1].fill_(value))
    with pytest.raises(FloatingPointError, match="NaN, infinite or huge logits"):
        logits_of(folder, POOL, np.array([5]), dtype="float32")


def test_backend_names_dtype_and_kernel(tasks: Tasks) -> None:
    assert "float32, sdpa (asked for)" in tasks.predictor().backend


# on a GPU

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("tokens_per_pack", [64, 700, None])
def test_auto_on_a_gpu_equals_transformers(tmp_path: Path, tokens_per_pack: int | None) -> None:
    folder = make_checkpoint(tmp_path, **OPTIONS_16_BIT)
    actual = logits_of(folder, IDS, LENGTHS, attention="auto", tokens_per_pack=tokens_per_pack)
    assert_parity(actual, expected_logits(folder, IDS, LENGTHS), GATES[torch.float16])


def on_gpu(tasks: Tasks, heads: slice, tokens_per_pack: int) -> Predictor:
    chosen = [HeadSpec(name, tasks.weights[i], depth) for i, (name, _, depth) in enumerate(HEADS)][heads]
    return Predictor(tasks.weights[0], chosen, SPECIALS, tokens_per_pack=tokens_per_pack)


@pytest.mark.gpu
@needs_gpu
def test_no_operation_inside_a_pack_synchronizes_with_the_gpu(tasks: Tasks) -> None:
    predictor = on_gpu(tasks, slice(None), 500)
    requests = [HeadRequest(all_tokens(MANY))] * len(HEADS)
    requests[1] = HeadRequest(all_tokens(MANY), lambda logits, _: logits.topk(2), at_once=64)
    expected = predictor(POOL, MANY, requests)
    torch.cuda.set_sync_debug_mode("error")
    try:
        actual = predictor(POOL, MANY, requests)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for arrays, others in zip(actual, expected, strict=True):
        assert all(map(np.array_equal, arrays, others))


@pytest.mark.gpu
@needs_gpu
def test_the_predictor_halves_packs_that_do_not_fit_on_a_gpu(tasks: Tasks) -> None:
    inputs = single(np.zeros(20_000, dtype=np.int64), np.full(20_000, 30))
    request = HeadRequest(all_tokens(inputs), lambda logits, _: (logits.argmax(1),))
    ((expected,),) = on_gpu(tasks, slice(1, 2), 8192)(POOL, inputs, [request])
    predictor = on_gpu(tasks, slice(1, 2), 1 << 20)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 400e6) / total)
    try:
        ((actual,),) = predictor(POOL, inputs, [request])  # the logits alone would need 900 MB
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert predictor.budget < 1 << 20
    assert (actual == expected).mean() > 0.99  # another order of float16 sums changes a few choices

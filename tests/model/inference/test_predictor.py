"""The predictor gives each reading back as asked, whatever the order, the packs, and the neighbours."""

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
from tests.model.parity import CALM, CASES, GATES, VOCABULARY, Batch, assert_parity, hf_outputs
from tests.support import HeadKind, edit_tensors, make_checkpoint

SPECIALS = SpecialTokenIds(cls_id=2, sep_id=3)
TINY = {"layers": 2, "dim": 16, "heads": 2, "hidden_dim": 24, "positions": 64}
POOL = np.random.default_rng(0).integers(0, VOCABULARY, 60)
CLOSE = 1e-4

# several tasks on one encoder: a head, its checkpoint, and the layer it reads
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
    """Any number of texts and pairs, the same ones twice among them."""
    rows = draw(st.lists(st.tuples(slices(), st.just((0, -1)) | slices()), max_size=6))
    rows += draw(st.lists(st.sampled_from(rows), max_size=2)) if rows else []
    return pair(*np.array(rows, dtype=np.int64).reshape(-1, 4).T)


@st.composite
def positions_of(draw: st.DrawFn, lengths: list[int]) -> OutputPositions:
    """Runs in any order: they may overlap, be the same, be empty, or leave sequences out."""
    runs = []
    for sequence in draw(st.lists(st.integers(0, len(lengths) - 1), max_size=8)) if lengths else []:
        start = draw(st.integers(0, lengths[sequence]))
        runs.append((sequence, start, draw(st.integers(0, lengths[sequence] - start))))
    return OutputPositions(*np.array(runs, dtype=np.int64).reshape(-1, 3).T)


def alone(predictor: Predictor, asked: Sequences, readings: Sequence[HeadRequest]) -> list[np.ndarray]:
    """The same from each sequence by itself, read whole, and cut into runs here."""
    whole = []
    for number, length in enumerate(asked.lengths):
        every = HeadRequest(
            OutputPositions(np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64), np.array([length]))
        )
        whole.append([out for (out,) in predictor(POOL, asked.take(np.array([number])), [every] * len(readings))])
    runs = [zip(r.positions.sequence, r.positions.start, r.positions.length, strict=True) for r in readings]
    outputs = [[whole[i][head][start : start + n] for i, start, n in runs[head]] for head in range(len(readings))]
    return [np.concatenate(parts) if parts else np.zeros((0, 0)) for parts in outputs]


@settings(max_examples=25)
@given(st.data())
def test_every_run_comes_back_in_the_order_asked(predictors: dict[int, Predictor], data: st.DataObject) -> None:
    asked = data.draw(sequences())
    predictor = predictors[data.draw(st.sampled_from(list(predictors)))]
    readings = [HeadRequest(data.draw(positions_of(asked.lengths.tolist()))) for _ in HEADS]
    before = predictor.computed_tokens
    outputs = predictor(POOL, asked, readings)
    assert predictor.computed_tokens - before == asked.lengths.sum()
    for (ours,), wanted, reading in zip(outputs, alone(predictors[1], asked, readings), readings, strict=True):
        assert len(ours) == reading.positions.length.sum()
        assert ours.dtype == np.float32
        assert not len(wanted) or np.abs(ours - wanted).max() <= CLOSE


@given(st.data())
@settings(max_examples=25)
def test_a_reduction_sees_outputs_with_their_numbers(predictors: dict[int, Predictor], data: st.DataObject) -> None:
    """And what it makes of them comes back in order, in its own dtype and shape."""
    asked = data.draw(sequences())
    predictor = predictors[data.draw(st.sampled_from(list(predictors)))]
    at_once = data.draw(st.sampled_from([None, 1, 3]))
    plain = [HeadRequest(data.draw(positions_of(asked.lengths.tolist())), at_once=at_once) for _ in HEADS]

    def reduce(logits: Tensor, numbers: Ints) -> tuple[Tensor, ...]:
        assert logits.dtype == torch.float32
        return logits.argmax(-1), torch.from_numpy(numbers), logits[:, :2]

    reduced = predictor(POOL, asked, [replace(reading, reduce=reduce) for reading in plain])
    for (logits,), (best, numbers, two) in zip(predictor(POOL, asked, plain), reduced, strict=True):
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
    asked = single(np.array([0]), np.array([5]))
    predictor(POOL, asked, [HeadRequest(first_positions(1))])
    assert not computed
    predictor.depths = [1]
    predictor(POOL, asked, [HeadRequest(first_positions(1))])
    assert computed == [1]


def all_tokens(asked: Sequences) -> OutputPositions:
    """Of every text, without [CLS] and [SEP]."""
    return OutputPositions(np.arange(len(asked.first)), np.ones_like(asked.length), asked.length)


def logits_of(folder: Path, ids: Ints, lengths: Ints, attention: str = "sdpa", **options: object) -> Tensor:
    weights = read_weights(Checkpoint(str(folder)))
    head = HeadSpec("token-classification", weights, weights.config.n_layers)
    asked = single(offsets_of(lengths)[:-1], lengths)
    predictor = Predictor(weights, [head], SPECIALS, attention=attention, **options)
    return torch.from_numpy(predictor(ids, asked, [HeadRequest(all_tokens(asked))])[0][0])


def wanted_of(folder: Path, ids: Ints, lengths: Ints) -> Tensor:
    """Transformers' logits of the same tokens, texts in the order given, [CLS] and [SEP] around each."""
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
    ours = logits_of(checkpoint, IDS, LENGTHS, dtype="float32", tokens_per_pack=tokens_per_pack)
    assert_parity(ours, wanted_of(checkpoint, IDS, LENGTHS))


def test_the_check_of_order_sees_an_order_that_is_not_restored(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mutation: outputs in the order of the pack."""
    within = module._OutputBuffer.within
    monkeypatch.setattr(module._OutputBuffer, "within", lambda *args: [(at, np.sort(n)) for at, n in within(*args)])
    with pytest.raises(AssertionError):
        assert_parity(logits_of(checkpoint, IDS, LENGTHS, dtype="float32"), wanted_of(checkpoint, IDS, LENGTHS))


@contextmanager
def memory_of(predictor: Predictor, most: Callable[[], int]) -> Iterator[list[int]]:
    """Packs of more tokens than that do not fit; gives the sizes of all that were tried."""
    tried: list[int] = []

    def look(_: object, args: tuple[Pack, object]) -> None:
        tried.append(args[0].input_ids.numel())
        if tried[-1] > most():
            raise torch.OutOfMemoryError("as a device says it")

    with predictor.encoder.register_forward_pre_hook(look):
        yield tried


MANY = single(np.arange(300) % 30, np.random.default_rng(1).integers(0, 30, 300))


def test_packs_that_do_not_fit_are_halved_and_no_row_is_lost(tasks: Tasks, caplog: pytest.LogCaptureFixture) -> None:
    predictor = tasks.predictor(2000)
    readings = [HeadRequest(first_positions(300))] * len(HEADS)
    wanted = tasks.predictor(2000)(POOL, MANY, readings)
    with memory_of(predictor, lambda: 600) as tried:
        ours = predictor(POOL, MANY, readings)
    assert sum(size > 600 for size in tried) == 2  # 2000, 1000, then 500 for good
    for (a,), (b,) in zip(ours, wanted, strict=True):
        assert np.abs(a - b).max() <= CLOSE
    assert predictor.computed_tokens == MANY.lengths.sum()
    assert "do not fit in the memory of cpu" in caplog.text
    with memory_of(predictor, lambda: 2000) as tried:
        predictor(POOL, MANY, readings)
    assert max(tried) > 1900  # what was computed before does not matter


def test_what_a_call_gives_does_not_depend_on_the_calls_before(tasks: Tasks) -> None:
    """To the last bit: a unit that is computed again, elsewhere, gives the same file."""
    worker, fresh = tasks.predictor(2000), tasks.predictor(2000)
    readings = [HeadRequest(all_tokens(MANY))] * len(HEADS)
    few = MANY.take(np.arange(40))
    with memory_of(worker, lambda: 300) as tried:
        worker(POOL, few, [HeadRequest(all_tokens(few))] * len(HEADS))
    assert max(tried) > 300
    with memory_of(worker, lambda: 1500) as tried, memory_of(fresh, lambda: 1500) as others:
        ours, wanted = worker(POOL, MANY, readings), fresh(POOL, MANY, readings)
    assert tried == others
    assert all(np.array_equal(a, b) for (a,), (b,) in zip(ours, wanted, strict=True))


def test_a_sequence_that_does_not_fit_alone_is_an_error(tasks: Tasks) -> None:
    predictor = tasks.predictor(2000)
    with (
        memory_of(predictor, lambda: 30),
        pytest.raises(module.DeviceMemoryError, match="single sequence of 31 tokens does not fit in the memory of cpu"),
    ):
        predictor(POOL, MANY, [HeadRequest(first_positions(300))] * len(HEADS))


def test_logits_that_are_not_finite_are_an_error(tmp_path: Path) -> None:
    """As when fp16 overflows: never a silent answer."""
    folder = make_checkpoint(tmp_path, **TINY)
    edit_tensors(folder, lambda tensors: tensors["classifier.weight"].fill_(6e4))
    with pytest.raises(FloatingPointError, match="NaN, infinite or huge logits on .*float16.*; try dtype bfloat16"):
        logits_of(folder, POOL, np.array([5]), dtype="float16")


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), 3e38, -3e38])
def test_every_output_that_no_sum_may_hold_is_an_error(tmp_path: Path, value: float) -> None:
    """Two logits of 3e38 are finite, and a score made of both is NaN."""
    folder = make_checkpoint(tmp_path, **TINY)
    edit_tensors(folder, lambda tensors: tensors["classifier.bias"][1].fill_(value))
    with pytest.raises(FloatingPointError, match="NaN, infinite or huge logits"):
        logits_of(folder, POOL, np.array([5]), dtype="float32")


def test_the_backend_is_said(tasks: Tasks) -> None:
    assert "float32, sdpa (asked for)" in tasks.predictor().backend


# on a GPU

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("tokens_per_pack", [64, 700, None])
def test_auto_on_a_gpu_equals_transformers(tmp_path: Path, tokens_per_pack: int | None) -> None:
    folder = make_checkpoint(tmp_path, **CALM)
    ours = logits_of(folder, IDS, LENGTHS, attention="auto", tokens_per_pack=tokens_per_pack)
    assert_parity(ours, wanted_of(folder, IDS, LENGTHS), GATES[torch.float16])


def on_gpu(tasks: Tasks, heads: slice, tokens_per_pack: int) -> Predictor:
    chosen = [HeadSpec(name, tasks.weights[i], depth) for i, (name, _, depth) in enumerate(HEADS)][heads]
    return Predictor(tasks.weights[0], chosen, SPECIALS, tokens_per_pack=tokens_per_pack)


@pytest.mark.gpu
@needs_gpu
def test_nothing_inside_a_pack_waits_for_the_gpu(tasks: Tasks) -> None:
    predictor = on_gpu(tasks, slice(None), 500)
    readings = [HeadRequest(all_tokens(MANY))] * len(HEADS)
    readings[1] = HeadRequest(all_tokens(MANY), lambda logits, _: logits.topk(2), at_once=64)
    wanted = predictor(POOL, MANY, readings)
    torch.cuda.set_sync_debug_mode("error")
    try:
        ours = predictor(POOL, MANY, readings)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for arrays, others in zip(ours, wanted, strict=True):
        assert all(map(np.array_equal, arrays, others))


@pytest.mark.gpu
@needs_gpu
def test_packs_that_a_gpu_cannot_hold_are_halved(tasks: Tasks) -> None:
    asked = single(np.zeros(20_000, dtype=np.int64), np.full(20_000, 30))
    reading = HeadRequest(all_tokens(asked), lambda logits, _: (logits.argmax(1),))
    ((wanted,),) = on_gpu(tasks, slice(1, 2), 8192)(POOL, asked, [reading])
    predictor = on_gpu(tasks, slice(1, 2), 1 << 20)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 400e6) / total)
    try:
        ((ours,),) = predictor(POOL, asked, [reading])  # its logits alone would be 900 MB
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert predictor.budget < 1 << 20
    assert (ours == wanted).mean() > 0.99  # float16: sums of another order make another choice here and there

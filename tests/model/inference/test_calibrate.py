"""Tests of the calibration: it selects the fastest token budget that fits the memory, and stores it."""

import os
import pwd
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch

from distilray.model.checkpoint.checkpoint import Checkpoint
from distilray.model.checkpoint.weights import Weights, read_weights
from distilray.model.errors import CalibrationError
from distilray.model.inference.calibrate import Calibration, calibrate, calibration_file, load_calibration
from distilray.model.inference.predictor import HeadSpec, Predictor
from distilray.model.inference.sequences import Sequences, single
from distilray.model.network.names import HeadName
from distilray.model.tokenizer.tokens import SpecialTokenIds
from tests.support import make_checkpoint

POOL = np.random.default_rng(0).integers(5, 50, 3000)
FIRST = np.arange(0, 2900, 29)
SHORT, LONG = single(FIRST, np.resize([7, 29, 61], len(FIRST))), single(FIRST[:90], np.resize([120, 250], 90))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DISTILRAY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    options = {"head": "masked-lm", "layers": 2, "dim": 16, "heads": 2, "hidden_dim": 24}
    return read_weights(Checkpoint(str(make_checkpoint(tmp_path_factory.mktemp("calibrated"), **options))))


def make_predictor(weights: Weights, *heads: tuple[HeadName, int]) -> Predictor:
    chosen = [HeadSpec(name, weights, depth) for name, depth in heads]
    return Predictor(weights, chosen, SpecialTokenIds(2, 3), "float32", "sdpa", 3000)


@pytest.fixture(scope="module")
def predictor(weights: Weights) -> Predictor:
    return make_predictor(weights, ("first-token", 1))


def packs_of(
    predictor: Predictor, sequences: Sequences, most: int | None = None, seconds: float = 60
) -> tuple[Calibration, set[int]]:
    """Calibrate in a memory of `most` tokens. Return the calibration and the sizes of its packs."""
    pack_sizes: set[int] = set()

    def record(_: Any, args: tuple[Any, ...]) -> None:
        pack_sizes.add(args[0].input_ids.numel())
        if most is not None and args[0].input_ids.numel() > most:
            raise torch.OutOfMemoryError("no more memory")
        if most is not None and max(pack_sizes) <= most:
            time.sleep(0.02)  # packs after the memory error are faster, and must not count

    with predictor.encoder.register_forward_pre_hook(record):
        return calibrate(predictor, POOL, sequences, seconds), pack_sizes


def test_calibrate_selects_a_budget_that_it_measured(predictor: Predictor) -> None:
    before = predictor.computed_tokens
    calibration, packs = packs_of(predictor, SHORT)
    longest = SHORT.lengths.max()
    assert any(calibration.tokens_per_pack - longest < pack <= calibration.tokens_per_pack for pack in packs)
    assert max(packs) > 1500  # it grew
    assert calibration.tokens_per_second > 0
    assert (predictor.tokens_per_pack, predictor.computed_tokens) == (3000, before)


def test_the_budget_grows_until_the_memory_is_full(predictor: Predictor) -> None:
    calibration, packs = packs_of(predictor, SHORT, most=1500)
    assert calibration.tokens_per_pack == 1024
    assert max(packs) > 1500


def test_without_time_calibrate_keeps_the_budget_and_stores_nothing(predictor: Predictor) -> None:
    calibration, packs = packs_of(predictor, SHORT, seconds=0)
    assert 900 < max(packs) <= 1024  # calibrate always measures the smallest budget
    assert calibration.tokens_per_pack == predictor.tokens_per_pack
    assert calibration.tokens_per_second > 0
    assert load_calibration(predictor, SHORT) is None


def test_calibrate_computes_outputs_over_a_vocabulary_in_small_groups(weights: Weights) -> None:
    """The tasks do the same: the outputs of a whole pack could need more memory than everything else."""
    predictor, at_once = make_predictor(weights, ("masked-lm", 1)), []
    empty = single(np.zeros(9, dtype=np.int64), np.zeros(9, dtype=np.int64))
    with predictor.heads[0].register_forward_hook(lambda _, __, logits: at_once.append(len(logits))):
        packs = packs_of(predictor, empty, most=5000)[1]
    assert 4096 in packs  # 2,048 sequences
    assert max(at_once) == 1024


def test_the_key_of_a_calibration_covers_everything_it_depends_on(predictor: Predictor, weights: Weights) -> None:
    assert load_calibration(predictor, SHORT) is None
    calibration, _ = packs_of(predictor, SHORT, most=1500)
    assert load_calibration(predictor, SHORT) == calibration
    assert load_calibration(predictor, SHORT.take(np.arange(3))) == calibration  # of a similar typical length
    assert load_calibration(predictor, LONG) is None
    for heads in ([("first-token", 2)], [("first-token", 0)], [("mean-pooling", 1)], [("first-token", 1)] * 2):
        assert load_calibration(make_predictor(weights, *heads), SHORT) is None
    packs_of(predictor, LONG, most=1500)
    assert load_calibration(predictor, SHORT) == calibration
    assert list(calibration_file().parent.iterdir()) == [calibration_file()]


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[]", b'{"cpu": 3}', b'{"cpu": {"tokens_per_pack": 1.5}}'])
def test_a_calibration_file_with_other_content_is_an_error(predictor: Predictor, content: bytes) -> None:
    calibration_file().parent.mkdir()
    calibration_file().write_bytes(content)
    for call in (lambda: load_calibration(predictor, SHORT), lambda: calibrate(predictor, POOL, SHORT, seconds=0)):
        with pytest.raises(CalibrationError, match=r"calibration\.json: .*; delete it"):
            call()
    assert calibration_file().read_bytes() == content


@pytest.fixture
def ordinary_user() -> Iterator[None]:
    """Run the test as an ordinary user, because root may read and write every file."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    yield
    if root:
        os.seteuid(0)


@pytest.mark.usefixtures("ordinary_user")
def test_a_file_without_permissions_does_not_stop_the_run(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with tempfile.TemporaryDirectory() as name:
        monkeypatch.setenv("DISTILRAY_CACHE", name)
        calibration_file().write_text("{}")
        calibration_file().chmod(0)
        Path(name).chmod(0o500)
        assert load_calibration(predictor, SHORT) is None
        assert "cannot be read: " in caplog.text
        packs_of(predictor, SHORT, most=1500)
        assert list(Path(name).iterdir()) == [calibration_file()]  # no other file remains
    assert "is not stored: [Errno 13]" in caplog.text


def test_a_folder_that_cannot_be_created_does_not_stop_the_run(
    predictor: Predictor, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.write_text("a file")
    assert load_calibration(predictor, SHORT) is None
    assert packs_of(predictor, SHORT, most=1500)[0].tokens_per_pack == 1024
    assert "is not stored: [Errno 17]" in caplog.text


def test_a_file_that_cannot_be_replaced_leaves_no_temporary_file(
    predictor: Predictor, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A folder appears at the path of the file during the calibration."""

    def make_folder(*_: object) -> None:
        calibration_file().mkdir(parents=True, exist_ok=True)

    with predictor.encoder.register_forward_pre_hook(make_folder):
        packs_of(predictor, SHORT, most=1500)
    assert list(cache.iterdir()) == [calibration_file()]
    assert "is not stored" in caplog.text


def test_a_user_without_a_home_stores_nothing_unless_the_variable_is_set(
    predictor: Predictor, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unknown(uid: int) -> NoReturn:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert calibration_file() == cache / "calibration.json"
    monkeypatch.delenv("DISTILRAY_CACHE")
    packs_of(predictor, SHORT, most=1500)
    assert "is not stored: Could not determine home directory" in caplog.text


def test_no_sequences_are_an_error(predictor: Predictor) -> None:
    nothing = SHORT.take(np.zeros(0, dtype=np.int64))
    with pytest.raises(ValueError, match="expected some sequences to calibrate with, got none"):
        calibrate(predictor, POOL, nothing)
    with pytest.raises(ValueError, match="expected some sequences"):
        load_calibration(predictor, nothing)

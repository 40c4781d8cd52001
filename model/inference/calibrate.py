"""Calibration: the measurement of the token budget that is fastest on this device with this model.

A calibration uses real sequences. Its result is stored for later runs.
"""

import json
import logging
import platform
import re
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distilray.model.arrays import Ints, offsets_of
from distilray.model.errors import CalibrationError
from distilray.model.inference.predictor import Predictor
from distilray.model.inference.requests import HeadRequest, first_positions
from distilray.model.inference.sequences import Sequences
from distilray.model.storage.cache import cache_folder

log = logging.getLogger(__name__)

_MIN_BUDGET = {"cpu": 1024, "cuda": 8192}
_PACKS_PER_CALL = {"cpu": 1, "cuda": 8}  # several on CUDA, where the copies of a pack overlap with the next pack
# the limit of tasks with an output for each token of the vocabulary; such outputs must not fill the memory first
_MAX_POSITIONS_AT_ONCE = 1024
_MIN_SECONDS = 0.25  # minimum time for the measurement of one budget
_MIN_GAIN = 1.03  # minimum speedup that justifies a budget twice as large, because smaller packs need less memory


@dataclass(frozen=True)
class Calibration:
    """The token budget of a pack, and the tokens per second measured with it."""

    tokens_per_pack: int
    tokens_per_second: float


def calibrate(predictor: Predictor, pool: Ints, sequences: Sequences, seconds: float = 10.0) -> Calibration:
    """Double the budget until throughput stops growing or memory is full. Store and return the best budget.

    The measurement also stops before the budget that would exceed `seconds`. In that case, a larger budget may
    be better, or the device may have been busy. The returned budget is then at least the predictor's own, the returned
    rate is a lower bound, and nothing is stored. The smallest budget is always measured, even if it takes longer.

    sequences: some sequences of the corpus, slices of `pool`. They are repeated to fill the packs. The settings of the
    predictor are restored. If the file cannot be read or written, a warning is logged. Raises ValueError
    without sequences. Raises CalibrationError if the file holds anything but calibrations.
    """
    if not len(sequences.first):
        raise ValueError("expected some sequences to calibrate with, got none")
    stored = _read_calibrations()
    settings = predictor.tokens_per_pack, predictor.computed_tokens
    try:
        measured, stop_reason = _measure_budgets(predictor, pool, sequences, seconds)
    finally:
        predictor.tokens_per_pack, predictor.computed_tokens = settings
    best = measured[0]
    for candidate in measured[1:]:
        best = candidate if candidate.tokens_per_second > best.tokens_per_second * _MIN_GAIN else best
    rates = ", ".join(f"{candidate.tokens_per_pack}: {candidate.tokens_per_second:,.0f}" for candidate in measured)
    log.info(
        "calibrated %s: tokens/s by tokens per pack %s; stopped by %s",
        predictor.backend,
        rates,
        stop_reason or f"{seconds:g} s",
    )
    if stop_reason is None:
        return Calibration(max(best.tokens_per_pack, settings[0]), best.tokens_per_second)
    _write_calibrations(stored | {_key(predictor, sequences): asdict(best)})
    return best


def load_calibration(predictor: Predictor, sequences: Sequences) -> Calibration | None:
    """Return the stored calibration for this device, model and length of sequences, or None.

    Raises the errors of `calibrate`.
    """
    if not len(sequences.first):
        raise ValueError("expected some sequences to measure their typical length, got none")
    stored = _read_calibrations().get(_key(predictor, sequences))
    return Calibration(**stored) if stored else None


def calibration_file() -> Path:
    """Return the path of the stored calibrations. Raises RuntimeError for a user without a home."""
    return cache_folder() / "calibration.json"


def _measure_budgets(
    predictor: Predictor, pool: Ints, sequences: Sequences, seconds: float
) -> tuple[list[Calibration], str | None]:
    """Return the measurements, and the reason why they stopped, or None if the time was used up."""
    start = time.perf_counter()
    device = predictor.device.type
    budget = _MIN_BUDGET[device]
    _measure_rate(predictor, pool, _repeat_sequences(sequences, 1), 0)  # the first call is slow
    measured: list[Calibration] = []
    while True:
        predictor.tokens_per_pack = budget
        rate = _measure_rate(
            predictor, pool, _repeat_sequences(sequences, budget * _PACKS_PER_CALL[device]), _MIN_SECONDS
        )
        if (fitting := predictor.budget) < budget:  # memory is full
            return measured or [Calibration(fitting, rate)], "memory"
        measured.append(Calibration(budget, rate))
        if len(measured) > 1 and rate < measured[-2].tokens_per_second * _MIN_GAIN:
            return measured, "no more gain"
        budget *= 2
        if time.perf_counter() - start + budget * _PACKS_PER_CALL[device] / rate > seconds:
            return measured, None


def _measure_rate(predictor: Predictor, pool: Ints, sequences: Sequences, seconds: float) -> float:
    """Return the tokens per second: the median over the calls that fit in `seconds`, at least one."""
    request = HeadRequest(
        first_positions(len(sequences.first)), lambda outputs, _: (outputs.amax(-1),), _MAX_POSITIONS_AT_ONCE
    )
    requests = [request] * len(predictor.heads)
    times: list[float] = []
    if predictor.device.type == "cuda":
        predictor(pool, sequences, requests)  # allocates memory and loads kernels for the new size
    while not times or sum(times) < seconds:
        start = time.perf_counter()
        predictor(pool, sequences, requests)
        times.append(time.perf_counter() - start)
    return float(sequences.lengths.sum()) / statistics.median(times)


def _repeat_sequences(sequences: Sequences, tokens: int) -> Sequences:
    """Repeat the sequences in a random order, as many as fit in `tokens`, at least one."""
    order = np.random.default_rng(0).permutation(len(sequences.first))
    copies = -(-tokens // int(sequences.lengths.sum()))
    repeated = np.tile(order, copies)
    count = int(np.searchsorted(offsets_of(sequences.lengths[repeated]), tokens, side="right")) - 1
    return sequences.take(repeated[: max(1, count)])


def _key(predictor: Predictor, sequences: Sequences) -> str:
    """Return a text of everything that the best budget and its rate depend on."""
    config = predictor.config
    shape = ", ".join(f"{name} {getattr(config, name)}" for name in ("dim", "n_heads", "hidden_dim"))
    passes = f"{max(predictor.depths)} layers, {shape}, heads {' '.join(sorted(predictor.head_names))}"
    typical_length = 1 << (int(np.median(sequences.lengths)).bit_length() - 1)
    device_name = _cpu_name() if predictor.device.type == "cpu" else predictor.device_name
    settings = f"{torch.get_num_threads()} threads, {predictor.precision}, {predictor.attention}"
    return f"{device_name}, {settings}, torch {torch.__version__}, {passes}, length {typical_length}"


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    match = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.exists() else None
    return match[1] if match else platform.processor() or platform.machine()


def _read_calibrations() -> dict[str, Any]:
    try:
        file = calibration_file()
        content = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (PermissionError, RuntimeError) as error:
        log.warning("stored calibrations cannot be read: %s", error)
        return {}
    except (OSError, ValueError) as error:
        raise CalibrationError(f"{file}: cannot be read ({error}); delete it") from error
    if not isinstance(content, dict) or not all(_is_calibration(value) for value in content.values()):
        raise CalibrationError(f"{file}: expected calibrations, got other content; delete it")
    return content


def _is_calibration(value: Any) -> bool:
    if not isinstance(value, dict) or value.keys() != {"tokens_per_pack", "tokens_per_second"}:
        return False
    return all(type(number) in (int, float) and number > 0 for number in value.values()) and (
        type(value["tokens_per_pack"]) is int
    )


def _write_calibrations(content: dict[str, Any]) -> None:
    """Replace the file atomically.

    If two processes write, one calibration is lost, but the file is never broken.
    """
    try:
        file = calibration_file()
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent) as folder:
            new = Path(folder) / file.name
            new.write_text(json.dumps(content, indent=2), encoding="utf-8")
            new.replace(file)
    except (OSError, RuntimeError) as error:
        log.warning("the calibration is not stored: %s; set DISTILRAY_CACHE to another folder", error)

"""Which token budget is fastest on this device with this model: measured on real sequences, and remembered."""

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

_SMALLEST = {"cpu": 1024, "cuda": 8192}
_PACKS = {"cpu": 1, "cuda": 8}  # a call: where packs overlap, several
_AT_ONCE = 1024  # as a task with outputs as wide as a vocabulary asks for them: not they must end growth
_SECONDS = 0.25  # spent on a budget at least
_GAIN = 1.03  # a budget twice as large must be so much faster: smaller packs need less memory


@dataclass(frozen=True)
class Calibration:
    """The token budget of a pack, and the tokens a second seen with it."""

    tokens_per_pack: int
    tokens_per_second: float


def calibrate(predictor: Predictor, pool: Ints, sequences: Sequences, seconds: float = 10.0) -> Calibration:
    """Doubles the budget until throughput stops growing or memory ends, and remembers the best.

    If `seconds` would be over before, the best may be larger than any that was tried: then the answer is not below the
    predictor's own budget, its rate is one that is reached at least, and nothing is remembered, for the device may only
    have been busy. The smallest budget is always measured, however long that takes.
    sequences: some of the corpus, slices of `pool`, repeated to fill the packs. Leaves the predictor as it was.
    Where the file may not be read or written, a warning says so. Raises ValueError without sequences, CalibrationError
    for a file that holds something else.
    """
    if not len(sequences.first):
        raise ValueError("expected some sequences to calibrate with, got none")
    known = _read()
    before = predictor.tokens_per_pack, predictor.computed_tokens
    try:
        tried, end = _grow(predictor, pool, sequences, seconds)
    finally:
        predictor.tokens_per_pack, predictor.computed_tokens = before
    best = tried[0]
    for each in tried[1:]:
        best = each if each.tokens_per_second > best.tokens_per_second * _GAIN else best
    rates = ", ".join(f"{each.tokens_per_pack}: {each.tokens_per_second:,.0f}" for each in tried)
    log.info(
        "calibrated %s: tokens/s by tokens a pack %s; ended by %s", predictor.backend, rates, end or f"{seconds:g} s"
    )
    if end is None:
        return Calibration(max(best.tokens_per_pack, before[0]), best.tokens_per_second)
    _write(known | {_key(predictor, sequences): asdict(best)})
    return best


def remembered(predictor: Predictor, sequences: Sequences) -> Calibration | None:
    """What was measured before for this device, model and length of sequences. Raises as `calibrate` does."""
    if not len(sequences.first):
        raise ValueError("expected some sequences to tell their typical length from, got none")
    found = _read().get(_key(predictor, sequences))
    return Calibration(**found) if found else None


def calibration_file() -> Path:
    """Where rates are remembered. Raises RuntimeError for a user without a home."""
    return cache_folder() / "calibration.json"


def _grow(
    predictor: Predictor, pool: Ints, sequences: Sequences, seconds: float
) -> tuple[list[Calibration], str | None]:
    """What was measured, and what ended it; None: the time."""
    start = time.perf_counter()
    device = predictor.device.type
    budget = _SMALLEST[device]
    _rate(predictor, pool, _tiled(sequences, 1), 0)  # the first call of all is slow
    tried: list[Calibration] = []
    while True:
        predictor.tokens_per_pack = budget
        rate = _rate(predictor, pool, _tiled(sequences, budget * _PACKS[device]), _SECONDS)
        if (fitting := predictor.budget) < budget:  # memory ended
            return tried or [Calibration(fitting, rate)], "memory"
        tried.append(Calibration(budget, rate))
        if len(tried) > 1 and rate < tried[-2].tokens_per_second * _GAIN:
            return tried, "no more gain"
        budget *= 2
        if time.perf_counter() - start + budget * _PACKS[device] / rate > seconds:
            return tried, None


def _rate(predictor: Predictor, pool: Ints, sequences: Sequences, seconds: float) -> float:
    """Tokens a second: the median of as many calls as fit in `seconds`, one at least."""
    reading = HeadRequest(first_positions(len(sequences.first)), lambda outputs, _: (outputs.amax(-1),), _AT_ONCE)
    readings = [reading] * len(predictor.heads)
    times: list[float] = []
    if predictor.device.type == "cuda":
        predictor(pool, sequences, readings)  # memory and kernels for the new size
    while not times or sum(times) < seconds:
        start = time.perf_counter()
        predictor(pool, sequences, readings)
        times.append(time.perf_counter() - start)
    return float(sequences.lengths.sum()) / statistics.median(times)


def _tiled(sequences: Sequences, tokens: int) -> Sequences:
    """The sequences again and again, in an order of no meaning, as many as `tokens` hold, one at least."""
    order = np.random.default_rng(0).permutation(len(sequences.first))
    copies = -(-tokens // int(sequences.lengths.sum()))
    every = np.tile(order, copies)
    fit = int(np.searchsorted(offsets_of(sequences.lengths[every]), tokens, side="right")) - 1
    return sequences.take(every[: max(1, fit)])


def _key(predictor: Predictor, sequences: Sequences) -> str:
    """Everything that the best budget and its rate depend on."""
    config = predictor.config
    shape = ", ".join(f"{name} {getattr(config, name)}" for name in ("dim", "n_heads", "hidden_dim"))
    passed = f"{max(predictor.depths)} layers, {shape}, heads {' '.join(sorted(predictor.head_names))}"
    typical = 1 << (int(np.median(sequences.lengths)).bit_length() - 1)
    where = _cpu() if predictor.device.type == "cpu" else predictor.device_name
    computed = f"{torch.get_num_threads()} threads, {predictor.precision}, {predictor.attention}"
    return f"{where}, {computed}, torch {torch.__version__}, {passed}, length {typical}"


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.exists() else None
    return found[1] if found else platform.processor() or platform.machine()


def _read() -> dict[str, Any]:
    try:
        file = calibration_file()
        content = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (PermissionError, RuntimeError) as error:
        log.warning("calibrations of before cannot be read: %s", error)
        return {}
    except (OSError, ValueError) as error:
        raise CalibrationError(f"{file}: cannot be read ({error}); delete it") from error
    if not isinstance(content, dict) or not all(_is_calibration(value) for value in content.values()):
        raise CalibrationError(f"{file}: expected calibrations, got something else; delete it")
    return content


def _is_calibration(value: Any) -> bool:
    if not isinstance(value, dict) or value.keys() != {"tokens_per_pack", "tokens_per_second"}:
        return False
    return all(type(number) in (int, float) and number > 0 for number in value.values()) and (
        type(value["tokens_per_pack"]) is int
    )


def _write(content: dict[str, Any]) -> None:
    """Replaces the file at once: of two processes that write, one's finding is forgotten, and no file is broken."""
    try:
        file = calibration_file()
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent) as folder:
            new = Path(folder) / file.name
            new.write_text(json.dumps(content, indent=2), encoding="utf-8")
            new.replace(file)
    except (OSError, RuntimeError) as error:
        log.warning("the calibration is not remembered: %s; DISTILRAY_CACHE names another folder", error)

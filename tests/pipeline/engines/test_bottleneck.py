"""The advice and the bottleneck of a run, for every stage that can be slow."""

import pytest

from distilray.operators.rows.timing import Timing
from distilray.pipeline.engines.bottleneck import StageTimes, TimeSpent, advice, bottleneck

CASES = {
    "device is the limit": TimeSpent(units=9, workers=2, predict=95, starved=5),
    "more than 2 tokenizers": TimeSpent(units=9, workers=2, predict=40, starved=60, tokenize=90),
    "reading is the limit": TimeSpent(units=9, workers=2, predict=40, starved=60, tokenize=20, read=90),
    "writing is the limit": TimeSpent(units=9, workers=2, predict=40, held=60, write=95),
    "a larger compute.unit_bytes": TimeSpent(units=9, workers=2, predict=40, held=60, write=5),
    "larger compute.unit_bytes": TimeSpent(
        units=9, workers=2, predict=40, starved=60, tokenize=9, read=3
    ),  # no stage was busy
    "few units for so many workers": TimeSpent(units=9, workers=2, predict=40, starting=60),
    "a smaller compute.unit_bytes": TimeSpent(units=9, workers=2, predict=40, idle=60, starved=20),
}


@pytest.mark.parametrize("text", CASES)
def test_the_advice_names_the_slow_stage(text: str) -> None:
    assert text in advice(CASES[text], devices=2, tokenizers=2, writers=2)


def test_the_local_engine_has_its_own_advice() -> None:
    assert "set compute.engine to ray" in advice(
        TimeSpent(units=9, workers=1, predict=40, starved=60), devices=1, tokenizers=0, writers=0
    )
    assert "device is the limit" in advice(
        TimeSpent(units=9, workers=1, predict=99, starved=1), devices=1, tokenizers=0, writers=0
    )


def test_the_bottleneck_shows_shares_of_the_workers_time() -> None:
    shares = bottleneck(TimeSpent(units=4, workers=2, read=500, predict=60, starved=25, held=10, idle=5, write=500))
    assert (
        shares == "predict workers (2): computed 60%, waited for input 25%, waited to hand over 10%, idle at the end 5%"
    )
    assert bottleneck(TimeSpent()) == "no unit was computed"
    assert advice(TimeSpent(), devices=2, tokenizers=2, writers=2) == "none: no unit was computed"


def test_advice_names_too_many_workers() -> None:
    spent = TimeSpent(units=1, workers=1, predict=95, starting=5)
    assert "few units for so many workers" in advice(spent, devices=8, tokenizers=24, writers=2)
    assert "device is the limit" in advice(spent, devices=1, tokenizers=3, writers=2)


def test_stage_times_are_summed_and_early_workers_are_idle() -> None:
    clock = StageTimes()
    for worker, predicted in (("a", 10.0), ("b", 30.0), ("a", 18.0), ("c", 30.0)):
        clock.add(Timing(read=1, tokenize=2, predict=3, write=4, starved=5, held=6, predicted=predicted, worker=worker))
    spent = clock.spent()
    assert (spent.units, spent.workers, spent.idle) == (4, 3, 12)
    assert (spent.read, spent.tokenize, spent.predict, spent.write) == (4, 8, 12, 16)
    assert spent.occupied == 12 + 20 + 24 + 12

"""The engine without Ray: the operators in a for-loop."""

from collections.abc import Iterable, Iterator

from distilray.operators.evaluate import Counts, Evaluate, counts_of
from distilray.operators.isolated_read import read_guarded
from distilray.operators.predict import PredictUnit
from distilray.operators.rows.unit import Unit
from distilray.operators.tokenize import TokenizeUnit
from distilray.operators.worker_config import WorkerConfig
from distilray.operators.write import Commit, Write, commit_of


def run_units(work: WorkerConfig, write: Write, units: Iterable[Unit]) -> Iterator[Commit]:
    """Answers and commits the units one after another; yields each commit."""
    tokenize, predict = TokenizeUnit(work.tasks, work.isolation), PredictUnit(work.tasks, work.compute, work.isolation)
    for unit in units:
        yield commit_of(write(predict(tokenize(read_guarded(work.read, work.isolation, unit)))))


def judge_units(work: WorkerConfig, units: Iterable[Unit]) -> Iterator[Counts]:
    """Compares the units with their gold one after another; yields the counts of each one."""
    tokenize, evaluate = TokenizeUnit(work.tasks), Evaluate(work.tasks, work.compute)
    for unit in units:
        yield from counts_of(evaluate(tokenize(work.read(unit))))

"""The engine without Ray: the operators in a for-loop."""

from collections.abc import Iterable, Iterator

from distilray.operators.evaluate import Counts, Evaluate, counted
from distilray.operators.predict import Predict
from distilray.operators.read import Unit
from distilray.operators.read_apart import read_guarded
from distilray.operators.tokenize import Tokenize
from distilray.operators.work import Work
from distilray.operators.write import Commit, Write, written


def run_units(work: Work, write: Write, units: Iterable[Unit]) -> Iterator[Commit]:
    """Answers and commits the units one after another; yields each commit."""
    tokenize, predict = Tokenize(work.tasks, work.guard), Predict(work.tasks, work.compute, work.guard)
    for unit in units:
        yield written(write(predict(tokenize(read_guarded(work.read, work.guard, unit)))))


def judge_units(work: Work, units: Iterable[Unit]) -> Iterator[Counts]:
    """Compares the units with their gold one after another; yields the counts of each one."""
    tokenize, evaluate = Tokenize(work.tasks), Evaluate(work.tasks, work.compute)
    for unit in units:
        yield from counted(evaluate(tokenize(work.read(unit))))

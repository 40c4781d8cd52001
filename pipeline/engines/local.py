"""The engine without Ray: the operators in a loop."""

from collections.abc import Iterable, Iterator

from distilray.operators.evaluate import Counts, Evaluate, counts_of
from distilray.operators.isolated_read import read_isolated
from distilray.operators.predict import PredictUnit
from distilray.operators.rows.unit import Unit
from distilray.operators.tokenize import TokenizeUnit
from distilray.operators.worker_config import WorkerConfig
from distilray.operators.write import Commit, Write, commit_of


def run_units(config: WorkerConfig, write: Write, units: Iterable[Unit]) -> Iterator[Commit]:
    """Answer and commit the units one after another. Yields each commit."""
    tokenize = TokenizeUnit(config.tasks, config.isolation)
    predict = PredictUnit(config.tasks, config.compute, config.isolation)
    for unit in units:
        yield commit_of(write(predict(tokenize(read_isolated(config.read, config.isolation, unit)))))


def evaluate_units(config: WorkerConfig, units: Iterable[Unit]) -> Iterator[Counts]:
    """Compare the units with their gold columns one after another. Yields the counts of each unit."""
    tokenize, evaluate = TokenizeUnit(config.tasks), Evaluate(config.tasks, config.compute)
    for unit in units:
        yield from counts_of(evaluate(tokenize(config.read(unit))))

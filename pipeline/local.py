"""The engine without Ray: the operators in a for-loop."""

from collections.abc import Iterable, Iterator

from distilray.operators.predict import Predict
from distilray.operators.read import Unit
from distilray.operators.tokenize import Tokenize
from distilray.operators.work import Work
from distilray.operators.write import Stats, written


def run_units(work: Work, units: Iterable[Unit]) -> Iterator[Stats]:
    """Answers and commits the units one after another; yields what each one held."""
    tokenize, predict = Tokenize(work.tasks), Predict(work.tasks, work.compute)
    for unit in units:
        yield from written(work.write(predict(tokenize(work.read(unit)))))

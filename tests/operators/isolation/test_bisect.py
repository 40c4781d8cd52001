"""call_bisecting rejects the rows that make an operator raise, and raises errors that rows do not cause."""

from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from distilray.operators import predict, tokenize
from distilray.operators.isolation import watchdog as deadline
from distilray.operators.isolation.attempts import Isolation
from distilray.operators.isolation.bisect import NOT_ROW_ERRORS, call_bisecting
from distilray.operators.predict import PredictUnit
from distilray.operators.rows import schema as s
from distilray.operators.tasks import TokenClassification
from distilray.operators.tokenize import TokenizeUnit
from distilray.operators.worker_config import ComputeSpec
from tests.operators.harness import reasons, rows
from tests.support import random_texts


class Raising:
    """An operator that raises an error for tables with certain texts, and returns all other tables."""

    def __init__(self, error: Exception, *texts: str) -> None:
        self.error, self.texts, self.calls = error, texts, 0

    def __call__(self, table: pa.Table) -> pa.Table:
        self.calls += 1
        if pc.any(pc.is_in(table[s.TEXT], pa.array(self.texts))).as_py():
            raise self.error
        return table


@pytest.mark.parametrize("kind", NOT_ROW_ERRORS)
def test_an_error_that_rows_do_not_cause_is_raised_at_once(kind: type[Exception]) -> None:
    call = Raising(kind("the model"), "b")
    with pytest.raises(kind, match="the model"):
        call_bisecting(call, rows(["a", "b", "c"]), "predict")
    assert call.calls == 1


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("x"), "error"),
        (MemoryError(), "out_of_memory"),
        (torch.OutOfMemoryError("x"), "out_of_memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "out_of_memory"),
    ],
)
def test_a_row_that_raises_is_rejected_with_its_reason(error: Exception, reason: str) -> None:
    assert reasons(call_bisecting(Raising(error, "b"), rows(["a", "b", "c"]), "predict")) == [None, reason, None]


def test_ten_failed_rows_are_rejected_only_after_an_answered_row() -> None:
    call = Raising(ValueError("x"), "bad")
    result = call_bisecting(call, rows(["good"] * 8 + ["bad"] * 12), "predict")
    assert reasons(result) == [None] * 8 + ["error"] * 12
    with pytest.raises(ValueError, match="x"):
        call_bisecting(call, rows(["bad"] * 10 + ["good"] * 8), "predict")
    assert reasons(call_bisecting(call, rows(["bad"] * 9 + ["good"]), "predict")) == ["error"] * 9 + [None]
    assert reasons(call_bisecting(call, rows(["bad"] * 30), "predict", None)) == ["error"] * 30


def test_the_deadline_covers_work_and_restarts_with_every_pack(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    armed, starts, armed_at_work = [False], [], []

    def arm(*_: object, **__: object) -> None:
        armed[0] = True
        starts.append(1)

    monkeypatch.setattr(deadline.faulthandler, "dump_traceback_later", arm)
    monkeypatch.setattr(deadline.faulthandler, "cancel_dump_traceback_later", lambda: armed.__setitem__(0, False))
    monkeypatch.setattr(deadline, "time", SimpleNamespace(monotonic=count().__next__))
    for owner, name in ((tokenize, "tokenized"), (predict.PredictUnit, "answers")):
        work = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *a, work=work: (armed_at_work.append(armed[0]), work(*a))[1])
    tasks, isolation = [TokenClassification(model=str(checkpoint))], Isolation("run", deadline=9)
    table = rows(random_texts(60, 1, words=(60, 60))).append_column(s.UNIT, pa.repeat("unit", 60))
    tokens = TokenizeUnit(tasks, isolation)(table)
    assert (armed_at_work, len(starts), armed) == ([True], 1, [False])
    PredictUnit(tasks, ComputeSpec(dtype="float32", tokens_per_pack=512), isolation)(tokens)
    assert (armed_at_work, armed) == ([True, True], [False])
    assert len(starts) > 1 + 60 * 60 // 512

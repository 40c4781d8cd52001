"""Tasks, checked against their checkpoints."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from distilray.operators.encoder_passes import EncoderPasses, check_passes, open_passes
from distilray.operators.tasks.task import Task, open_checkpoints


@dataclass(frozen=True)
class CheckedTasks:
    """Tasks that can be done. answers: their columns; digests: of their checkpoints; passes: through their encoders;
    tasks_by_pass: the names of the tasks that share each pass."""

    answers: pa.Schema
    digests: list[str]
    passes: EncoderPasses
    tasks_by_pass: list[list[str]]


def check_tasks(tasks: Sequence[Task]) -> CheckedTasks:
    """Raises CheckpointError or TaskError if a task cannot be done with its checkpoint."""
    checkpoints = open_checkpoints(tasks)
    passes, _ = open_passes(tasks, checkpoints)
    check_passes(passes)
    fields = [field for task, config in zip(tasks, passes.configs, strict=True) for field in task.output_schema(config)]
    names = [[tasks[i].name for i in each.tasks] for each in passes.passes]
    return CheckedTasks(pa.schema(fields), [checkpoint.digest() for checkpoint in checkpoints], passes, names)

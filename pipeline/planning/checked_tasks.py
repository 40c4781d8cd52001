"""The tasks of a job, checked against their checkpoints."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from distilray.operators.encoder_passes import EncoderPasses, check_passes, open_passes
from distilray.operators.tasks.task import Task, open_checkpoints


@dataclass(frozen=True)
class CheckedTasks:
    """Tasks that their checkpoints support.

    answers: the columns of their answers. digests: the digests of their checkpoints. passes: the passes through their
    encoders. tasks_by_pass: for each pass, the names of the tasks that share it.
    """

    answers: pa.Schema
    digests: list[str]
    passes: EncoderPasses
    tasks_by_pass: list[list[str]]


def check_tasks(tasks: Sequence[Task]) -> CheckedTasks:
    """Open the checkpoints of tasks. Raises CheckpointError or TaskError if a checkpoint does not support its task."""
    checkpoints = open_checkpoints(tasks)
    passes, _ = open_passes(tasks, checkpoints)
    check_passes(passes)
    fields = [field for task, config in zip(tasks, passes.configs, strict=True) for field in task.output_schema(config)]
    names = [[tasks[i].name for i in encoder_pass.tasks] for encoder_pass in passes.passes]
    return CheckedTasks(pa.schema(fields), [checkpoint.digest() for checkpoint in checkpoints], passes, names)

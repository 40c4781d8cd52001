"""The encoder passes of a job, and the inputs of each pass for a batch."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from distilray.model.arrays import Ints
from distilray.model.checkpoint.checkpoint import Checkpoint
from distilray.model.checkpoint.weights import Weights, check_weights, read_weights
from distilray.model.errors import WindowError
from distilray.model.inference.requests import HeadRequest, OutputPositions
from distilray.model.inference.sequences import Sequences, union
from distilray.model.network.config import Config
from distilray.operators.errors import TaskError
from distilray.operators.evaluation.gold import Gold
from distilray.operators.rows.batch import read_batch
from distilray.operators.tasks.task import Request, Task
from distilray.operators.tokenize import TokenizerGroup, group_tokenizers


@dataclass(frozen=True)
class EncoderPass:
    """Tasks that share a tokenizer and an encoder, and therefore their sequences.

    tokenizer_group: the number of the tokenizer group. tasks: the numbers of the tasks.
    """

    tokenizer_group: int
    tasks: tuple[int, ...]


@dataclass(frozen=True)
class PassInputs:
    """The inputs of one pass for a batch.

    pool: the token ids of the batch. sequences: the distinct sequences of the pass, as slices of `pool`.
    head_requests, requests: the `HeadRequest` and the `Request` of each task of the pass. sequence_numbers: for each
    request, the indices of its sequences in `sequences`.
    """

    pool: Ints
    sequences: Sequences
    head_requests: list[HeadRequest]
    requests: list[Request]
    sequence_numbers: list[Ints]


@dataclass(frozen=True)
class EncoderPasses:
    """The tasks of a job with their configs, their tokenizer groups, and the encoder passes."""

    tasks: Sequence[Task]
    configs: Sequence[Config]
    tokenizer_groups: Sequence[TokenizerGroup]
    passes: Sequence[EncoderPass]

    def inputs(self, table: pa.Table, gold: Mapping[str, Gold] | None = None) -> Iterator[PassInputs]:
        """Build the inputs of each pass for the tokenized rows of a table. gold: the gold by name of task."""
        batches = [read_batch(table, number, group.tokenizer) for number, group in enumerate(self.tokenizer_groups)]
        for encoder_pass in self.passes:
            number = encoder_pass.tokenizer_group
            batch, tokenizers = batches[number], self.tokenizer_groups[number].tokenizers
            requests = [
                self.tasks[i].request(
                    replace(batch, tokenizer=tokenizers[i]), self.configs[i], (gold or {}).get(self.tasks[i].name)
                )
                for i in encoder_pass.tasks
            ]
            sequences, numbers = union([request.sequences for request in requests])
            head_requests = [
                _renumber(request.head_request, new) for request, new in zip(requests, numbers, strict=True)
            ]
            yield PassInputs(batch.pool.ids, sequences, head_requests, requests, numbers)


def open_passes(tasks: Sequence[Task], checkpoints: Sequence[Checkpoint]) -> tuple[EncoderPasses, list[Weights]]:
    """Open the passes of a job and the weights of every task.

    Raises CheckpointError if a checkpoint does not fit its task.
    """
    weights, groups = _read_models(tasks, checkpoints), group_tokenizers(tasks, checkpoints)
    passes = _passes(groups, [task_weights.encoder_digest() for task_weights in weights])
    return EncoderPasses(tasks, [task_weights.config for task_weights in weights], groups, passes), weights


def check_passes(passes: EncoderPasses) -> None:
    """Raise TaskError if the options of a task do not fit its checkpoint."""
    for group in passes.tokenizer_groups:
        for i, tokenizer in group.tokenizers.items():
            task = passes.tasks[i]
            try:
                task.check(passes.configs[i], tokenizer)
            except (TaskError, WindowError) as error:
                raise TaskError(f"tasks.{i} ({task.name}, {task.model}): {error}") from error


def _passes(groups: Sequence[TokenizerGroup], encoders: Sequence[str]) -> list[EncoderPass]:
    """Group tasks into passes. encoders: the digest of the encoder of each task."""
    return [
        EncoderPass(number, tuple(i for i in group.tokenizers if encoders[i] == encoder))
        for number, group in enumerate(groups)
        for encoder in dict.fromkeys(encoders[i] for i in group.tokenizers)
    ]


def _read_models(tasks: Sequence[Task], checkpoints: Sequence[Checkpoint]) -> list[Weights]:
    """Return the weights of every task. Each checkpoint is read once."""
    distinct = {id(checkpoint): checkpoint for checkpoint in checkpoints}
    weights = {key: read_weights(checkpoint) for key, checkpoint in distinct.items()}
    for task, checkpoint in zip(tasks, checkpoints, strict=True):
        check_weights(task.head_name(), weights[id(checkpoint)])
    return [weights[id(checkpoint)] for checkpoint in checkpoints]


def _renumber(request: HeadRequest, numbers: Ints) -> HeadRequest:
    """Return the request with the new numbers of its sequences."""
    positions = request.positions
    return replace(request, positions=OutputPositions(numbers[positions.sequence], positions.start, positions.length))

"""The encoder passes of a job, and what each of them computes for a batch."""

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
from distilray.operators.tokenize import Tokenizing, tokenizings


@dataclass(frozen=True)
class EncoderPass:
    """Tasks that share a tokenizer and an encoder, and so their sequences. tokenizing, tasks: numbers."""

    tokenizing: int
    tasks: tuple[int, ...]


@dataclass(frozen=True)
class PassInputs:
    """What a pass computes for a batch. sequences: each distinct one once, slices of `pool`; readings, requests: of the
    pass's tasks; where: for each of them, where its sequences are among those of the pass."""

    pool: Ints
    sequences: Sequences
    head_requests: list[HeadRequest]
    requests: list[Request]
    where: list[Ints]


@dataclass(frozen=True)
class EncoderPasses:
    """The tasks of a job with their configs, the tokenizers that differ, and the encoder passes."""

    tasks: Sequence[Task]
    configs: Sequence[Config]
    tokenizings: Sequence[Tokenizing]
    passes: Sequence[EncoderPass]

    def inputs(self, table: pa.Table, gold: Mapping[str, Gold] | None = None) -> Iterator[PassInputs]:
        """Pass by pass, what the tokenized rows of a table need; gold: of tasks by name."""
        batches = [read_batch(table, number, each.tokenizer) for number, each in enumerate(self.tokenizings)]
        for each in self.passes:
            batch, tokenizers = batches[each.tokenizing], self.tokenizings[each.tokenizing].tokenizers
            requests = [
                self.tasks[i].request(
                    replace(batch, tokenizer=tokenizers[i]), self.configs[i], (gold or {}).get(self.tasks[i].name)
                )
                for i in each.tasks
            ]
            sequences, where = union([request.sequences for request in requests])
            head_requests = [_moved(request.head_request, at) for request, at in zip(requests, where, strict=True)]
            yield PassInputs(batch.pool.ids, sequences, head_requests, requests, where)


def open_passes(tasks: Sequence[Task], checkpoints: Sequence[Checkpoint]) -> tuple[EncoderPasses, list[Weights]]:
    """The passes, and every task's weights. Raises CheckpointError for checkpoints that do not fit their task."""
    weights, tokenizers = _read_models(tasks, checkpoints), tokenizings(tasks, checkpoints)
    shared = _passes(tokenizers, [each.encoder_digest() for each in weights])
    return EncoderPasses(tasks, [each.config for each in weights], tokenizers, shared), weights


def check_passes(passes: EncoderPasses) -> None:
    """Raises TaskError if the options of a task do not fit its checkpoint."""
    for each in passes.tokenizings:
        for i, tokenizer in each.tokenizers.items():
            task = passes.tasks[i]
            try:
                task.check(passes.configs[i], tokenizer)
            except (TaskError, WindowError) as error:
                raise TaskError(f"tasks.{i} ({task.name}, {task.model}): {error}") from error


def _passes(tokenizers: Sequence[Tokenizing], encoders: Sequence[str]) -> list[EncoderPass]:
    """encoders: what tells the encoder of each task from another."""
    return [
        EncoderPass(number, tuple(i for i in tokenizing.tokenizers if encoders[i] == encoder))
        for number, tokenizing in enumerate(tokenizers)
        for encoder in dict.fromkeys(encoders[i] for i in tokenizing.tokenizers)
    ]


def _read_models(tasks: Sequence[Task], checkpoints: Sequence[Checkpoint]) -> list[Weights]:
    """Every task's weights, each checkpoint read once."""
    read = {id(checkpoint): checkpoint for checkpoint in checkpoints}
    weights = {key: read_weights(checkpoint) for key, checkpoint in read.items()}
    for task, checkpoint in zip(tasks, checkpoints, strict=True):
        check_weights(task.head_name(), weights[id(checkpoint)])
    return [weights[id(checkpoint)] for checkpoint in checkpoints]


def _moved(request: HeadRequest, at: Ints) -> HeadRequest:
    """The reading of sequences that were given other numbers."""
    runs = request.positions
    return replace(request, positions=OutputPositions(at[runs.sequence], runs.start, runs.length))

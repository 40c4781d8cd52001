"""The embeddings task: a vector for each text."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from distilray.model.arrays import Arrays, Floats, Ints
from distilray.model.decode.scores import no_decisions
from distilray.model.inference.requests import HeadRequest, first_positions
from distilray.model.inference.sequences import SINGLE, single
from distilray.model.network.config import Config
from distilray.model.network.names import HeadName
from distilray.model.tokenizer.tokenizer import Tokenizer
from distilray.operators.errors import TaskError
from distilray.operators.evaluation.gold import Gold
from distilray.operators.rows.batch import Batch
from distilray.operators.tasks.long_texts import LongTexts, window_texts
from distilray.operators.tasks.options import AnswerColumn, Count
from distilray.operators.tasks.task import Answer, Line, Rejection, Rendering, Request, Task


class Embeddings(Task):
    """Vectors of fixed size from the encoder of any DistilBERT checkpoint. The head of the checkpoint is not used."""

    task: Annotated[Literal["embeddings"], Field(description="The kind of the task.")] = "embeddings"
    name: AnswerColumn = "embedding"
    pooling: Annotated[
        Literal["mean", "cls"],
        Field(
            description="With mean, the vector is the mean over all tokens of a text with [CLS] and [SEP], as in "
            "sentence-transformers. With cls, it is the hidden state of [CLS]."
        ),
    ] = "mean"
    layer: Annotated[
        Count | None,
        Field(description="The layer whose hidden states are read. 0 is the embedding layer; null is the last layer."),
    ] = None
    normalize: Annotated[bool, Field(description="Whether to scale each vector to length 1.")] = False
    dtype: Annotated[
        Literal["float32", "float16"], Field(description="The data type of the components in the output.")
    ] = "float32"
    long_texts: Annotated[
        LongTexts,
        Field(
            description="The treatment of a text longer than the model: error makes it a dead letter, truncate "
            "reads its beginning, mean averages its windows, weighted by their tokens. max is not "
            "supported."
        ),
    ] = "error"

    head: ClassVar[HeadName] = "mean-pooling"

    @model_validator(mode="after")
    def _check_options(self) -> Self:
        if self.long_texts == "max":
            raise ValueError("long_texts max has no meaning for embeddings; choose mean, truncate or error")
        return self

    @property
    def truncates(self) -> bool:
        return self.long_texts == "truncate"

    def head_name(self) -> HeadName:
        return "mean-pooling" if self.pooling == "mean" else "first-token"

    def depth(self, config: Config) -> int:
        return config.n_layers if self.layer is None else self.layer

    def check(self, config: Config, tokenizer: Tokenizer) -> None:
        if self.depth(config) > config.n_layers:
            raise TaskError(f"layer: the model has layers 0 to {config.n_layers}, got {self.layer}")

    def answer_type(self, config: Config) -> pa.DataType:
        return pa.list_(pa.float16() if self.dtype == "float16" else pa.float32(), config.dim)

    def request(self, batch: Batch, config: Config, gold: Gold | None = None) -> Request:
        capacity = batch.tokenizer.max_length - SINGLE
        windowed = window_texts(batch.text.tokens, capacity, self.long_texts)
        windows = windowed.windows

        def answer(outputs: Arrays) -> Answer:
            weights = windows.lengths + SINGLE if self.pooling == "mean" else np.ones_like(windows.lengths)
            vectors = windowed.averaged(outputs[0], weights)
            if self.normalize:
                vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-12))
            rejections = (*windowed.rejections(self.long_texts, batch.tokenizer.max_length), self._overflow(vectors))
            limit = np.finfo(self.dtype).max
            values = pa.array(np.clip(vectors, -limit, limit).astype(self.dtype).reshape(-1))
            column = pa.FixedSizeListArray.from_arrays(values, type=self.answer_type(config))
            return Answer(column, windowed.too_long if self.truncates else None, rejections)

        sequences = single(batch.text.first[windows.text] + windows.start, windows.lengths)
        return Request(sequences, HeadRequest(first_positions(len(windows.text))), windows.text, answer)

    def decisions(self, logits: Floats, request: HeadRequest, rows: pa.Table, config: Config) -> Ints:
        return no_decisions(logits)

    def render(self, answer: Any, row: Mapping[str, Any]) -> Rendering:
        norm = np.linalg.norm(np.array(answer, dtype=np.float64))
        return Rendering(lines=[Line("", f"{len(answer)} components, length {norm:.4g}")])

    def scores(self, answers: pa.Array) -> tuple[str, pa.Array]:
        flat = answers.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
        vectors = flat.reshape(len(answers), answers.type.list_size)
        return "the length of each vector", pa.array(np.linalg.norm(vectors, axis=1))

    def _overflow(self, vectors: Floats) -> Rejection:
        limit = np.finfo(self.dtype).max
        return Rejection(
            np.any(np.abs(vectors) > limit, axis=1),
            "embedding_overflow",
            f"a component is larger than {limit:g}, the most a {self.dtype} holds; choose dtype float32, or normalize",
        )

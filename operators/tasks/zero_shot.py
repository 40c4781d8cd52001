"""The zero-shot classification task: labels without training, scored by a model of natural language inference (NLI)."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from distilray.model.arrays import Arrays, Floats, Ints
from distilray.model.decode.scores import label_decisions, softmax
from distilray.model.inference.requests import HeadRequest, first_positions
from distilray.model.inference.sequences import PAIR, Sequences, join, pair
from distilray.model.metrics import labels, multilabel
from distilray.model.network.config import Config
from distilray.model.network.names import HeadName
from distilray.model.tokenizer.tokenizer import Tokenizer
from distilray.operators.errors import TaskError
from distilray.operators.evaluation.gold import Gold
from distilray.operators.rows import schema as s
from distilray.operators.rows.batch import Batch, TokenColumn
from distilray.operators.rows.label_columns import ranked_labels
from distilray.operators.tasks.long_texts import LongTexts, WindowedTexts, window_texts
from distilray.operators.tasks.options import AnswerColumn
from distilray.operators.tasks.task import Answer, CompatTask, Rendering, Request, gold_of_answered, render_labels


class ZeroShotClassification(CompatTask):
    """Classification by any labels, with an NLI checkpoint (Yin et al. 2019, arXiv:1909.00161).

    A score states how much a text entails the hypothesis of a label.

    With compat "hf", long texts are truncated.
    """

    task: Annotated[Literal["zero-shot-classification"], Field(description="The kind of the task.")] = (
        "zero-shot-classification"
    )
    name: AnswerColumn = "label"
    labels: Annotated[list[str], Field(min_length=1, description="The candidate labels.")]
    hypothesis: Annotated[
        str, Field(description='The sentence that a text may entail. Each label replaces "{}" in it.')
    ] = "This example is {}."
    multi_label: Annotated[
        bool,
        Field(
            description="Whether a text may have several labels. If so, the score of a label compares its entailment "
            "with its contradiction. Otherwise the scores of all labels add up to 1."
        ),
    ] = False
    long_texts: Annotated[
        LongTexts,
        Field(
            description="The treatment of a text longer than the model: error makes it a dead letter, truncate "
            "reads its beginning, mean and max combine the logits of its windows."
        ),
    ] = "error"

    head: ClassVar[HeadName] = "sequence-classification"

    @model_validator(mode="after")
    def _check_options(self) -> Self:
        if "{}" not in self.hypothesis:
            raise ValueError('hypothesis must have a "{}", which each label replaces')
        if len(set(self.labels)) < len(self.labels):
            raise ValueError("labels must differ from each other")
        if self.compat == "hf" and self.long_texts != "truncate":
            raise ValueError("compat hf truncates long texts: set long_texts to truncate")
        return self

    @property
    def truncates(self) -> bool:
        return self.long_texts == "truncate"

    @property
    def _hypotheses(self) -> list[str]:
        return [self.hypothesis.replace("{}", label) for label in self.labels]

    def check(self, config: Config, tokenizer: Tokenizer) -> None:
        self._nli_outputs(config)
        if (longest := int(np.diff(tokenizer(self._hypotheses).offsets).max())) > tokenizer.max_length - PAIR - 1:
            raise TaskError(f"labels: a hypothesis of {longest} tokens leaves no room for a text: shorten it")

    def answer_type(self, config: Config) -> pa.DataType:
        return pa.list_(s.LABEL)

    def labels_to_count(self, answers: pa.ChunkedArray) -> pa.ChunkedArray:
        return pc.struct_field(pc.list_element(answers, 0), "label")

    def request(self, batch: Batch, config: Config, gold: Gold | None = None) -> Request:
        hypotheses = batch.add(self._hypotheses)
        room = batch.tokenizer.max_length - PAIR - hypotheses.lengths
        if self.compat == "hf":
            windowed = [window_texts(batch.text.tokens, tokens, self.long_texts) for tokens in room]
        else:  # every label has the same windows
            windowed = [window_texts(batch.text.tokens, room.min(), self.long_texts)] * len(room)
        parts = [_pairs(batch, texts, hypotheses, number) for number, texts in enumerate(windowed)]
        bounds = np.cumsum([len(part.first) for part in parts])

        def answer(outputs: Arrays) -> Answer:
            logits = np.split(outputs[0], bounds[:-1])
            pooled = [texts.pooled(part, self.long_texts) for texts, part in zip(windowed, logits, strict=True)]
            scores = self._scores(np.stack(pooled, axis=1), config)
            too_long = np.logical_or.reduce([texts.too_long for texts in windowed])
            rejections = windowed[int(room.argmin())].rejections(self.long_texts, batch.tokenizer.max_length)
            counts = self._counts(scores, gold_of_answered(gold, rejections)) if gold else {}
            return Answer(
                ranked_labels(scores, self.labels, None), too_long if self.truncates else None, rejections, counts
            )

        rows = np.concatenate([texts.windows.text for texts in windowed])
        return Request(join(parts), HeadRequest(first_positions(int(bounds[-1]))), rows, answer)

    def decisions(self, logits: Floats, request: HeadRequest, rows: pa.Table, config: Config) -> Ints:
        return label_decisions(logits, config.problem)

    def render(self, answer: Any, row: Mapping[str, Any]) -> Rendering:
        return render_labels(answer)

    def scores(self, answers: pa.Array) -> tuple[str, pa.Array]:
        return "the score of each text's best label", pc.struct_field(pc.list_element(answers, 0), "score")

    def figures(self, counts: dict[str, Any]) -> dict[str, Any]:
        return multilabel.figures(counts) if self.multi_label else labels.figures(counts)

    def _counts(self, scores: Floats, gold: Gold) -> dict[str, Any]:
        if self.multi_label:
            return multilabel.count(gold.label_flags(self.labels)[gold.rows], scores[gold.rows] >= 0.5, self.labels)
        return labels.count(gold.label_ids(self.labels), scores.argmax(axis=1), self.labels)

    def _scores(self, logits: Floats, config: Config) -> Floats:
        """Return the scores [R, labels] of NLI logits [R, labels, outputs]."""
        entails, contradicts = self._nli_outputs(config)
        if not self.multi_label and len(self.labels) > 1:
            return softmax(logits[:, :, entails])
        nli_logits = logits[:, :, [contradicts, entails]]
        return softmax(nli_logits.reshape(-1, 2))[:, 1].reshape(nli_logits.shape[:2])

    def _nli_outputs(self, config: Config) -> tuple[int, int]:
        """Return the numbers of the outputs for entailment and contradiction.

        Both are found by the names of the labels. With compat "hf", entailment without such a name is the last output,
        and contradiction is the first output, or the last one if entailment is the first.
        """
        names = [label.lower() for label in config.labels]
        entails = next((i for i, name in enumerate(names) if name.startswith("entail")), None)
        if self.compat == "hf":
            entails = len(names) - 1 if entails is None else entails
            return entails, -1 if entails == 0 else 0
        contradicts = next((i for i, name in enumerate(names) if name.startswith(("contradict", "not_entail"))), None)
        if entails is None or contradicts is None:
            raise TaskError(
                f"expected a model with labels entailment and contradiction, got {', '.join(config.labels)}: "
                "choose a model of natural language inference"
            )
        return entails, contradicts


def _pairs(batch: Batch, windowed: WindowedTexts, hypotheses: TokenColumn, number: int) -> Sequences:
    """Pair every window with the hypothesis `number`."""
    windows = windowed.windows
    ones = np.ones_like(windows.text)
    first, length = hypotheses.first[number] * ones, hypotheses.lengths[number] * ones
    return pair(batch.text.first[windows.text] + windows.start, windows.lengths, first, length)

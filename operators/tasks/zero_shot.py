"""Zero-shot classification: labels that are only words, judged by a model of natural language inference."""

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
from distilray.operators.tasks.options import ColumnName
from distilray.operators.tasks.task import Answer, CompatTask, Rendering, Request, gold_of_answered, render_labels


class ZeroShotClassification(CompatTask):
    """Any labels with an NLI checkpoint (Yin et al. 2019, arXiv:1909.00161): how much the text entails each hypothesis.

    labels: the candidates, put in the place of "{}" in `hypothesis`. multi_label: each label by itself, against its
    contradiction, instead of one label among all. long_texts: what becomes of texts longer than the model; mean and max
    combine the logits of their windows. compat "hf": Transformers' rules, which cut long texts.
    """

    task: Literal["zero-shot-classification"] = "zero-shot-classification"
    name: ColumnName = "label"
    labels: Annotated[list[str], Field(min_length=1)]
    hypothesis: str = "This example is {}."
    multi_label: bool = False
    long_texts: LongTexts = "error"

    head: ClassVar[HeadName] = "sequence-classification"

    @model_validator(mode="after")
    def _rules(self) -> Self:
        if "{}" not in self.hypothesis:
            raise ValueError('hypothesis must have a "{}", the place of the label')
        if len(set(self.labels)) < len(self.labels):
            raise ValueError("labels must differ from each other")
        if self.compat == "hf" and self.long_texts != "truncate":
            raise ValueError("compat hf cuts long texts: say so with long_texts truncate")
        return self

    @property
    def truncates(self) -> bool:
        return self.long_texts == "truncate"

    @property
    def _hypotheses(self) -> list[str]:
        return [self.hypothesis.replace("{}", label) for label in self.labels]

    def check(self, config: Config, tokenizer: Tokenizer) -> None:
        self._verdicts(config)
        if (longest := int(np.diff(tokenizer(self._hypotheses).offsets).max())) > tokenizer.max_length - PAIR - 1:
            raise TaskError(f"labels: a hypothesis of {longest} tokens leaves no room for a text")

    def answer_type(self, config: Config) -> pa.DataType:
        return pa.list_(s.LABEL)

    def labels_to_count(self, answers: pa.ChunkedArray) -> pa.ChunkedArray:
        return pc.struct_field(pc.list_element(answers, 0), "label")

    def request(self, batch: Batch, config: Config, gold: Gold | None = None) -> Request:
        hypotheses = batch.add(self._hypotheses)
        room = batch.tokenizer.max_length - PAIR - hypotheses.lengths
        if self.compat == "hf":
            laid = [window_texts(batch.text.tokens, tokens, self.long_texts) for tokens in room]
        else:  # the same windows for every label
            laid = [window_texts(batch.text.tokens, room.min(), self.long_texts)] * len(room)
        parts = [_pairs(batch, each, hypotheses, number) for number, each in enumerate(laid)]
        bounds = np.cumsum([len(part.first) for part in parts])

        def answer(outputs: Arrays) -> Answer:
            logits = np.split(outputs[0], bounds[:-1])
            pooled = [each.pooled(part, self.long_texts) for each, part in zip(laid, logits, strict=True)]
            scores = self._scores(np.stack(pooled, axis=1), config)
            beyond = np.logical_or.reduce([each.beyond for each in laid])
            rejections = laid[int(room.argmin())].rejections(self.long_texts, batch.tokenizer.max_length)
            counts = self._counts(scores, gold_of_answered(gold, rejections)) if gold else {}
            return Answer(
                ranked_labels(scores, self.labels, None), beyond if self.truncates else None, rejections, counts
            )

        rows = np.concatenate([each.windows.text for each in laid])
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
        """[R, labels] from NLI logits [R, labels, verdicts]."""
        entails, contradicts = self._verdicts(config)
        if not self.multi_label and len(self.labels) > 1:
            return softmax(logits[:, :, entails])
        against = logits[:, :, [contradicts, entails]]
        return softmax(against.reshape(-1, 2))[:, 1].reshape(against.shape[:2])

    def _verdicts(self, config: Config) -> tuple[int, int]:
        """The outputs that say "entailed" and "contradicted": ours by name, Transformers' second one by position."""
        names = [label.lower() for label in config.labels]
        entails = next((i for i, name in enumerate(names) if name.startswith("entail")), None)
        if self.compat == "hf":
            entails = len(names) - 1 if entails is None else entails
            return entails, -1 if entails == 0 else 0
        contradicts = next((i for i, name in enumerate(names) if name.startswith(("contradict", "not_entail"))), None)
        if entails is None or contradicts is None:
            raise TaskError(
                f"expected a model with labels entailment and contradiction, got {', '.join(config.labels)}: "
                "it is not one of natural language inference"
            )
        return entails, contradicts


def _pairs(batch: Batch, laid: WindowedTexts, hypotheses: TokenColumn, number: int) -> Sequences:
    """Every window with one hypothesis."""
    windows = laid.windows
    like = np.ones_like(windows.text)
    first, length = hypotheses.first[number] * like, hypotheses.lengths[number] * like
    return pair(batch.text.first[windows.text] + windows.start, windows.lengths, first, length)

"""The token classification task: entity spans."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from distilray.model.arrays import Arrays, Bools, Floats, Ints, offsets_of, ragged_ranges
from distilray.model.decode import token_classification as tc
from distilray.model.decode.hf_merge_spans import hf_merge_windows
from distilray.model.decode.scores import best_label
from distilray.model.decode.viterbi import TagRules, tag_rules
from distilray.model.inference.requests import HeadRequest, OutputPositions
from distilray.model.inference.sequences import SINGLE, single
from distilray.model.inference.windows import (
    Windows,
    best_context_ranges,
    check_windows,
    split_into_hf_windows,
    split_into_windows,
    word_starts,
)
from distilray.model.metrics import losses
from distilray.model.metrics import spans as metrics
from distilray.model.metrics.labelled import IGNORED
from distilray.model.network.config import Config
from distilray.model.network.names import HeadName
from distilray.model.tokenizer.tokenizer import Tokenizer, Tokens
from distilray.operators.errors import TaskError
from distilray.operators.evaluation.gold import Gold
from distilray.operators.evaluation.gold_tags import gold_tags
from distilray.operators.rows import schema as s
from distilray.operators.rows.batch import Batch
from distilray.operators.rows.ragged import slice_characters
from distilray.operators.tasks.long_texts import default_overlap
from distilray.operators.tasks.options import AnswerColumn, Count, Score
from distilray.operators.tasks.task import Answer, CompatTask, Line, Rendering, Request, Span, frequent_texts

if TYPE_CHECKING:  # reading a job must not import torch
    from torch import Tensor


class TokenClassification(CompatTask):
    """Entities by a token classification checkpoint.

    With compat "hf", texts longer than the model are truncated unless `overlap`, the "stride" of Transformers, is
    given.
    """

    task: Annotated[Literal["token-classification"], Field(description="The kind of the task.")] = (
        "token-classification"
    )
    name: AnswerColumn = "entities"
    aggregation: Annotated[
        tc.Aggregation,
        Field(
            description="The way in which tokens are grouped into words and spans. none returns single tokens; "
            "simple groups tokens; first, average and max label each word by its first token, the "
            "mean of its tokens or its most probable token."
        ),
    ] = "first"
    overlap: Annotated[
        Count | None,
        Field(
            description="The number of tokens that neighbouring windows share. null means 64, or less for "
            "small models. With compat hf, null means no windows: a long text is truncated."
        ),
    ] = None
    viterbi: Annotated[
        bool,
        Field(
            description="Whether to decode the best path that the tag scheme allows, instead of the best label "
            "of each word."
        ),
    ] = False
    threshold: Annotated[Score, Field(description="The least score of an entity.")] = 0.0
    thresholds: Annotated[
        dict[str, Score],
        Field(description="The least score of an entity by label; it overrides threshold for these labels."),
    ] = {}

    head: ClassVar[HeadName] = "token-classification"

    @model_validator(mode="after")
    def _check_options(self) -> Self:
        if self.compat == "hf" and self.aggregation == "none" and self.overlap is not None:
            raise ValueError("compat hf has no overlap with aggregation none; choose another aggregation")
        if self.viterbi and (self.compat == "hf" or self.aggregation == "none"):
            raise ValueError("viterbi needs an aggregation, and compat hf does not support it: leave viterbi out")
        if self.gold and self.aggregation == "none":
            raise ValueError("gold has entities, and aggregation none gives single tokens; choose another aggregation")
        return self

    @property
    def truncates(self) -> bool:
        return self.compat == "hf" and self.overlap is None

    def check(self, config: Config, tokenizer: Tokenizer) -> None:
        capacity = tokenizer.max_length - SINGLE
        most = capacity - 1 if self.compat == "hf" else capacity // 2
        check_windows(capacity, self.overlap or 0, most)
        self._tag_rules(config)
        names = self._scheme(config).entity_names
        if unknown := sorted(self.thresholds.keys() - set(names)):
            raise TaskError(f"thresholds: the model has no label {', '.join(unknown)}; it has {', '.join(names)}")

    def answer_type(self, config: Config) -> pa.DataType:
        return s.ENTITIES

    def labels_to_count(self, answers: pa.ChunkedArray) -> pa.ChunkedArray:
        return pc.struct_field(pc.list_flatten(answers), "label")

    def request(self, batch: Batch, config: Config, gold: Gold | None = None) -> Request:
        text, capacity = batch.text, batch.tokenizer.max_length - SINGLE
        if self.compat == "hf":
            windows = split_into_hf_windows(text.tokens.offsets, capacity, self.overlap)
            first, last = windows.start, windows.end
        else:
            overlap = default_overlap(capacity) if self.overlap is None else self.overlap
            windows = split_into_windows(text.tokens.offsets, text.tokens.word_ids, capacity, overlap)
            # one prediction for each token, from the window with the most context around it
            first, last = best_context_ranges(windows)
        positions = OutputPositions(np.arange(len(first)), 1 + first - windows.start, last - first)

        reduce = _best if gold is None and tc.needs_only_best_label(self.aggregation, self._tag_rules(config)) else None

        def answer(outputs: Arrays) -> Answer:
            hf = self.compat == "hf"
            spans = self._decode_hf(batch, config, windows, outputs) if hf else self._decode(batch, config, outputs)
            spans = tc.above_threshold(spans, self.threshold, self.thresholds)
            cut = text.lengths > capacity if self.truncates else None
            counts = self._counts(batch, config, windows, outputs[0], spans, gold) if gold else {}
            return Answer(entities(spans, batch.texts), cut, counts=counts)

        sequences = single(text.first[windows.text] + windows.start, windows.lengths)
        return Request(sequences, HeadRequest(positions, reduce), windows.text, answer)

    def decisions(self, logits: Floats, request: HeadRequest, rows: pa.Table, config: Config) -> Ints:
        return best_label(logits)

    def render(self, answer: Any, row: Mapping[str, Any]) -> Rendering:
        spans = [Span(entity["start"], entity["end"], entity["label"], entity["score"]) for entity in answer]
        return Rendering(spans, [] if spans else [Line("", "nothing found")])

    def scores(self, answers: pa.Array) -> tuple[str, pa.Array]:
        return "the score of each entity", pc.struct_field(answers.flatten(), "score")

    def query(self, data: str) -> str:
        return frequent_texts(self.name, "label", data)

    def figures(self, counts: dict[str, Any]) -> dict[str, Any]:
        return {**losses.figures(counts["loss"]), **metrics.figures(counts["spans"])}

    def _counts(
        self, batch: Batch, config: Config, windows: Windows, logits: Floats, predicted: tc.EntitySpans, gold: Gold
    ) -> dict[str, Any]:
        """Count metrics over spans, and the loss over the first token of each word, as in Transformers' training."""
        gold_entities, kept = gold.entities(), predicted.take(gold.rows[predicted.text])
        spans = metrics.Entities(kept.text, kept.start, kept.end, kept.label, kept.names)
        t = batch.text.tokens
        first, labels = gold_tags(t, gold_entities, config.labels)
        scored = gold.rows[np.searchsorted(t.offsets, first, "right") - 1]
        at = self._logit_positions(t, windows)[first]
        labels = np.where(scored & (at >= 0), labels, IGNORED)
        terms = losses.cross_entropy(logits[at], labels)
        return {"loss": losses.count(loss=terms), "spans": metrics.count(gold_entities, spans)}

    def _logit_positions(self, tokens: Tokens, windows: Windows) -> Ints:
        """Return the position of each token's logits, -1 for a truncated token. The last window of a token counts."""
        if self.compat is None:
            return np.arange(len(tokens.input_ids))
        positions = np.full(len(tokens.input_ids), -1)
        read = ragged_ranges(tokens.offsets[:-1][windows.text] + windows.start, windows.lengths)
        positions[read] = np.arange(len(read))
        return positions

    def _scheme(self, config: Config) -> tc.TagScheme:
        """Return the tag scheme of the checkpoint's labels."""
        if self.aggregation == "none":
            return tc.token_scheme(config.labels)
        return tc.hf_scheme(config.labels) if self.compat == "hf" else tc.detect_scheme(config.labels)

    def _tag_rules(self, config: Config) -> TagRules | None:
        """Return the rules for neighbouring labels. None means that all labels may follow each other."""
        try:
            return tag_rules(config.labels) if self.viterbi else None
        except ValueError as error:
            raise TaskError(f"viterbi: {error}; leave viterbi out") from None

    def _decode(self, batch: Batch, config: Config, outputs: Arrays) -> tc.EntitySpans:
        """Decode each text once, by the rules of distilray."""
        t = batch.text.tokens
        where = (t.offsets, word_starts(t.offsets, t.word_ids), t.start, t.end)
        return self._spans(outputs, where, config, self._tag_rules(config))

    def _decode_hf(self, batch: Batch, config: Config, windows: Windows, outputs: Arrays) -> tc.EntitySpans:
        """Decode each window and merge the spans, by the rules of Transformers."""
        t, tokenizer = batch.text.tokens, batch.tokenizer
        at = ragged_ranges(t.offsets[:-1][windows.text] + windows.start, windows.lengths)
        input_ids, start, end = t.input_ids[at], t.start[at], t.end[at]
        cu = offsets_of(windows.lengths)
        starts = tc.hf_word_starts(cu, input_ids, end - start, tokenizer.token_chars, tokenizer.unk_id)
        return hf_merge_windows(self._spans(outputs, (cu, starts, start, end), config, None), windows.text)

    def _spans(
        self, outputs: Arrays, where: tuple[Ints, Bools, Ints, Ints], config: Config, rules: TagRules | None
    ) -> tc.EntitySpans:
        """Decode the spans from logits, or from the labels and scores that `_best` returns."""
        scheme = self._scheme(config)
        if len(outputs) == 1:
            return tc.decode(outputs[0], *where, scheme, self.aggregation, rules)
        label, score = outputs
        return tc.decode_best(label, score, *where, scheme, self.aggregation)


def _best(logits: "Tensor", _: Ints) -> tuple["Tensor", "Tensor"]:
    """Return the best label of each token and its probability, both [P], from logits [P, L].

    The first of equal labels wins.
    """
    label = logits.argmax(1)
    highest = logits.gather(1, label[:, None])
    return label, 1 / (logits - highest).exp().sum(1)


def entities(spans: tc.EntitySpans, texts: pa.StringArray) -> pa.ListArray:
    """Convert spans to list<struct<start, end, label, score, text>>, one list for each text."""
    surface = slice_characters(texts, spans.text, spans.start, spans.end)
    label = pa.array(spans.names, pa.string()).take(pa.array(spans.label))
    values = pa.StructArray.from_arrays(
        [pa.array(spans.start), pa.array(spans.end), label, pa.array(spans.score), surface], fields=list(s.ENTITY)
    )
    counts = np.bincount(spans.text, minlength=len(texts))
    return pa.ListArray.from_arrays(pa.array(offsets_of(counts), pa.int32()), values)

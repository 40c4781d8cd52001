"""The fill-mask task: the tokens that a masked language model predicts for "[MASK]"."""

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from distilray.model.arrays import Arrays, Floats, Ints
from distilray.model.decode.scores import best_label
from distilray.model.inference.requests import HeadRequest, OutputPositions
from distilray.model.inference.sequences import SINGLE, single
from distilray.model.inference.windows import best_context_ranges, split_into_windows
from distilray.model.metrics import losses
from distilray.model.metrics import tokens as metrics
from distilray.model.metrics.labelled import IGNORED
from distilray.model.network.config import Config
from distilray.model.network.names import HeadName
from distilray.model.tokenizer.spec import SpecialTokens
from distilray.model.tokenizer.tokenizer import Tokenizer
from distilray.operators.errors import TaskError
from distilray.operators.evaluation.gold import Gold
from distilray.operators.rows import schema as s
from distilray.operators.rows.batch import Batch
from distilray.operators.rows.ragged import ragged
from distilray.operators.tasks.long_texts import TOO_LONG, default_overlap
from distilray.operators.tasks.options import AnswerColumn, Positive
from distilray.operators.tasks.task import (
    Answer,
    CompatTask,
    Line,
    Rejection,
    Rendering,
    Request,
    Span,
    first_of_each,
    gold_of_answered,
)

_MASKS_AT_ONCE = 1024  # each mask has an output for every token of the vocabulary

if TYPE_CHECKING:  # reading a job must not import torch
    import torch
    from torch import Tensor


class FillMask(CompatTask):
    """The best tokens for every mask in a text, by a masked language model. Each mask is predicted independently.

    A text longer than the model is read in windows, and only windows with a mask are computed. With compat "hf",
    "[SEP]" in a text is the separator. A target that is not a token stands for its first piece. A long text becomes a
    dead letter.
    """

    task: Annotated[Literal["fill-mask"], Field(description="The kind of the task.")] = "fill-mask"
    name: AnswerColumn = "masks"
    top_k: Annotated[Positive, Field(description="The number of tokens for each mask, best first.")] = 5
    targets: Annotated[
        Annotated[list[str], Field(min_length=1)] | None,
        Field(
            description="The tokens to choose from; null means the whole vocabulary. Probabilities are "
            "always over the whole vocabulary."
        ),
    ] = None

    head: ClassVar[HeadName] = "masked-lm"

    @property
    def special_tokens(self) -> SpecialTokens:
        return "special" if self.compat == "hf" else "mask"

    def check(self, config: Config, tokenizer: Tokenizer) -> None:
        if tokenizer.mask_id is None:
            raise TaskError("the tokenizer has no mask token: choose a masked language model")
        self._target_ids(tokenizer)

    def answer_type(self, config: Config) -> pa.DataType:
        return pa.list_(s.FILLED)

    def request(self, batch: Batch, config: Config, gold: Gold | None = None) -> Request:
        tokens, capacity = batch.text.tokens, batch.tokenizer.max_length - SINGLE
        windows = split_into_windows(tokens.offsets, tokens.word_ids, capacity, default_overlap(capacity))
        mask = np.flatnonzero(tokens.input_ids == batch.tokenizer.mask_id)
        begin = tokens.offsets[:-1][windows.text]
        # each token is read in the window with the most context around it; only windows with masks are computed
        used, sequence = np.unique(
            np.searchsorted(begin + best_context_ranges(windows)[0], mask, "right") - 1, return_inverse=True
        )
        window_start = begin[used] + windows.start[used]
        positions = OutputPositions(sequence, 1 + mask - window_start[sequence], np.ones_like(mask))
        row = np.searchsorted(tokens.offsets, mask, "right") - 1
        targets = self._target_ids(batch.tokenizer)
        counts = np.bincount(row, minlength=batch.rows)
        rejections = [Rejection(counts == 0, "no_mask", "the text has no mask token")]
        if self.compat == "hf":
            rejections.append(
                Rejection(batch.text.lengths > capacity, TOO_LONG, f"the text has more than {capacity} tokens")
            )

        gold_ids = (
            None if gold is None else self._gold(gold_of_answered(gold, tuple(rejections)), batch.tokenizer, counts)
        )

        @cache  # a copy for each pack would synchronize with the device
        def target_columns(device: "torch.device") -> "Tensor | slice":
            import torch  # noqa: PLC0415  only where a model runs

            return slice(None) if targets is None else torch.from_numpy(targets).to(device)

        def reduce(logits: "Tensor", numbers: Ints) -> tuple["Tensor", ...]:
            scores = logits.softmax(-1)
            candidates = scores[:, target_columns(logits.device)]
            best = tuple(candidates.topk(min(self.top_k, candidates.shape[1])))
            return best if gold_ids is None else (*best, *_loss_and_rank(logits, gold_ids[numbers]))

        def answer(outputs: Arrays) -> Answer:
            scores, best, *loss_and_rank = outputs
            ids = best if targets is None else targets[best]
            metric_counts = {}
            if gold_ids is not None:
                metric_counts = metrics.count(*(values[gold_ids != IGNORED] for values in loss_and_rank))
            return Answer(_column(batch, mask, counts, scores, ids), rejections=tuple(rejections), counts=metric_counts)

        sequences = single(window_start, windows.lengths[used])
        return Request(sequences, HeadRequest(positions, reduce, _MASKS_AT_ONCE), windows.text[used], answer)

    def decisions(self, logits: Floats, request: HeadRequest, rows: pa.Table, config: Config) -> Ints:
        return best_label(logits)

    def render(self, answer: Any, row: Mapping[str, Any]) -> Rendering:
        best = first_of_each(answer, "mask")
        spans = [Span(entry["start"], entry["end"], entry["token"], entry["score"]) for entry in best]
        return Rendering(spans, [Line(f"mask {entry['mask'] + 1}", entry["token"], entry["score"]) for entry in answer])

    def scores(self, answers: pa.Array) -> tuple[str, pa.Array]:
        return "the score of each token", pc.struct_field(answers.flatten(), "score")

    def figures(self, counts: dict[str, Any]) -> dict[str, Any]:
        return metrics.figures(counts)

    def _gold(self, gold: Gold, tokenizer: Tokenizer, counts: Ints) -> Ints:
        return gold.token_ids(tokenizer.vocabulary, counts)

    def _target_ids(self, tokenizer: Tokenizer) -> Ints | None:
        """Return the ids of the targets. Raises TaskError for a target that is not a token."""
        if self.targets is None:
            return None
        known = {token: i for i, token in enumerate(tokenizer.vocabulary) if token}
        if unknown := [target for target in self.targets if target not in known]:
            pieces = tokenizer(unknown)
            if self.compat != "hf" or not np.diff(pieces.offsets).all():
                raise TaskError(f"targets: expected tokens of the model, not in the vocabulary: {', '.join(unknown)}")
            known |= dict(zip(unknown, pieces.input_ids[pieces.offsets[:-1]].tolist(), strict=True))
        return np.unique([known[target] for target in self.targets])


def _loss_and_rank(logits: "Tensor", gold: Ints) -> tuple["Tensor", "Tensor"]:
    """Return the loss and the rank of the gold token at each position; 0 without gold."""
    import torch  # noqa: PLC0415  only where a model runs

    has_gold, table = gold != IGNORED, logits.cpu().numpy()
    loss, rank = np.zeros(len(gold)), np.zeros(len(gold), dtype=np.int64)
    loss[has_gold], rank[has_gold] = losses.cross_entropy(table, gold), metrics.ranks(table, gold)
    return torch.from_numpy(loss), torch.from_numpy(rank)


def _column(batch: Batch, mask: Ints, counts: Ints, scores: Floats, ids: Ints) -> pa.ListArray:
    """Return list<FILLED>, the candidates of every mask of a row, mask by mask, best first. scores, ids: [masks, k]."""
    number = np.arange(len(mask)) - np.repeat(np.cumsum(counts) - counts, counts)
    tokens, k = batch.text.tokens, ids.shape[1]
    where = (np.repeat(values, k) for values in (number, tokens.start[mask], tokens.end[mask]))
    flat = ids.reshape(-1)
    # "" is for models that have more outputs than the vocabulary has tokens
    names = pa.array([*batch.tokenizer.vocabulary, ""], pa.string())
    words = names.take(pa.array(np.minimum(flat, len(names) - 1)))
    values = [
        *(pa.array(v, pa.int32()) for v in where),
        pa.array(flat, pa.int32()),
        words,
        pa.array(scores.reshape(-1)),
    ]
    return ragged(counts * k, pa.StructArray.from_arrays(values, fields=list(s.FILLED)))

"""The comparison of answers with gold answers: the loss over windows, exact match and F1 over rows."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from distilray.model.arrays import Floats, Ints
from distilray.model.inference.windows import Windows
from distilray.model.metrics import answers, losses
from distilray.model.tokenizer.tokenizer import Tokens
from distilray.operators.evaluation.gold import Gold
from distilray.operators.rows.ragged import one_chunk


def count_answers(
    gold: Gold, predicted: pa.ListArray, tokens: Tokens, windows: Windows, context: Ints, logits: Floats, offsets: Ints
) -> dict[str, Any]:
    """Return the counts for losses and metrics over the rows of `gold`.

    predicted: list<ANSWER> [R], the best first. logits: [T, 2], of the sequences of all windows end to end. offsets:
    [W+1], of the sequences in logits. context: [W], the position of the text in each sequence. As in Transformers'
    training, the gold of a window is the row's first gold answer, or [CLS] if the window does not hold all of that
    answer.
    """
    texts, first = gold.answers()
    start, end = _positions(tokens, texts, first)
    row = windows.text
    inside = (start[row] >= windows.start) & (end[row] < windows.end)
    starts, ends = (np.where(inside, context + token[row] - windows.start, 0) for token in (start, end))
    kept = gold.rows[row]
    table = logits[np.repeat(kept, np.diff(offsets))]
    cu = np.append(0, np.cumsum(np.diff(offsets)[kept]))
    terms = losses.question_answering(table[:, 0], table[:, 1], cu, starts[kept], ends[kept])
    rows = pa.array(gold.rows)
    return {
        "loss": losses.count(**terms),
        "answers": answers.count(texts.filter(rows), _first_texts(predicted).filter(rows)),
    }


def _positions(tokens: Tokens, texts: pa.ListArray, first: Ints) -> tuple[Ints, Ints]:
    """Return the first and last token of each row's first gold answer, counted within its text; -1 if there is none."""
    has_gold = first >= 0
    length = np.zeros(len(first), dtype=np.int64)
    length[has_gold] = pc.utf8_length(pc.list_element(texts.filter(pa.array(has_gold)), 0)).to_numpy()
    row = np.repeat(np.arange(len(first)), np.diff(tokens.offsets))
    width = int(max(tokens.end.max(initial=0), (first + length).max(initial=0))) + 1
    token_keys = row * width + tokens.start.astype(np.int64)

    def token_at(character: Ints) -> Ints:
        """Return the last token that begins at or before a character."""
        token = (
            np.searchsorted(token_keys, np.arange(len(first)) * width + character, "right") - 1 - tokens.offsets[:-1]
        )
        return np.where(has_gold, np.maximum(token, 0), -1)

    return token_at(first), token_at(np.maximum(first + length - 1, first))


def _first_texts(answers: pa.ListArray) -> pa.Array:
    """Return the text of each row's first answer, "" for none."""
    padded = pc.list_slice(answers, 0, 1, return_fixed_size_list=True)
    return pc.fill_null(one_chunk(pa.chunked_array([pc.struct_field(padded.flatten(), "text")])), "")

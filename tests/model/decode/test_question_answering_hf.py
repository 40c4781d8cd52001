"""Tests of answers by Transformers 4.57's rules: equality on real text, and the defects that `decode` does not have."""

from functools import cache

import numpy as np
import pytest
import torch

from distilray.model.arrays import ragged_ranges
from distilray.model.checkpoint.checkpoint import Checkpoint
from distilray.model.decode.question_answering import QuestionWindows, decode
from distilray.model.inference.windows import split_into_hf_windows
from distilray.model.tokenizer.tokenizer import Tokenizer
from tests.golden import question_answering as golden
from tests.model.decode.asking import SCORE, Window, hf, joined, listed, peak, spans, words

# against Transformers 4.57


@cache
def tokenizer() -> Tokenizer:
    return Tokenizer(Checkpoint(str(golden.TOKENIZER)), "special")


def golden_windows(group: golden.Group) -> QuestionWindows:
    """Combine the stored logits of all rows with the tokens and windows of this package."""
    size = group.options.get("max_seq_len", 384)
    overlap = group.options.get("doc_stride", min(size // 2, 128))
    tokens = tokenizer()([row.text for row in group.rows])
    question_lengths = np.diff(tokenizer()([row.question for row in group.rows]).offsets)
    parts = []
    for i, row in enumerate(group.rows):
        first, last = tokens.offsets[i : i + 2]
        windows = split_into_hf_windows(
            np.array([0, last - first]), int(size - question_lengths[i] - 3), overlap, min_windows=1
        )
        assert windows.lengths.tolist() == row.windows
        at = first + ragged_ranges(windows.start, windows.lengths)
        inside, null = row.logits[:, : len(at)], row.logits[:, len(at) :]
        ask = np.full(len(row.windows), 10 * i)
        where = (tokens.start[at], tokens.end[at], tokens.word_ids[at])
        parts.append((ask, windows.lengths, *inside, *null, *where))
    return QuestionWindows(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


@pytest.mark.parametrize("group", golden.load()[0], ids=lambda group: "-".join(map(str, group.options.values())))
def test_answers_equal_transformers(group: golden.Group) -> None:
    options = {
        name: group.options[name] for name in ("top_k", "max_answer_len", "align_to_words") if name in group.options
    }
    null = group.options.get("handle_impossible_answer", False)
    actual = hf(golden_windows(group), [row.text for row in group.rows], null=null, **options)
    for i, row in enumerate(group.rows):
        # if a window has too few spans, Transformers adds spans of probability 0
        reference = [(int(start), int(end), score) for score, start, end in row.answers if score > 0]
        answers = actual.get(i, [])
        assert len(answers) == len(reference)
        assert [score for *_, score in answers] == pytest.approx(
            [score for *_, score in reference], abs=SCORE, rel=SCORE
        )
        for (start, end, _), (_, _, score) in zip(answers, reference, strict=True):
            tied = [(a, b) for a, b, other in reference if other == pytest.approx(score, abs=0, rel=SCORE)]
            assert (start, end) in tied


def test_the_golden_rows_are_large_enough() -> None:
    rows = [row for group in golden.load()[0] for row in group.rows]
    assert len(rows) >= 250
    assert sum(len(row.windows) > 1 for row in rows) >= 90
    assert max(len(row.text.split()) for row in rows) > 2000


@torch.inference_mode()
def test_the_golden_checkpoint_is_reproducible() -> None:
    """A test of the whole path from text to answers then uses the model that gave the golden answers."""
    groups, fingerprint = golden.load()
    model = golden.build_model()
    assert golden.fingerprint(model) == pytest.approx(fingerprint, rel=1e-9)
    cls_id, sep_id = tokenizer().specials
    for row in [row for row in groups[0].rows if len(row.windows) == 1][:10]:
        question, context = (tokenizer()([text]).input_ids.tolist() for text in (row.question, row.text))
        out = model(torch.tensor([[cls_id, *question, sep_id, *context, sep_id]]))
        logits = torch.cat([out.start_logits, out.end_logits]).numpy()
        inside = np.concatenate([logits[:, len(question) + 2 : -1], logits[:, :1]], axis=1)
        np.testing.assert_allclose(inside, row.logits, atol=1e-4)


# defects of Transformers


def test_six_windows_with_one_answer_outrank_the_null_answer_only_in_transformers() -> None:
    """Each window gives "wa" a score of 0.14 and the null answer 0.39. Transformers adds the scores of "wa"."""
    context, text = words([1] * 6), " ".join(["wa"] * 6)
    windows = joined([[peak(context, (i, i), 2.0, null=2.5, first=i, last=i + 1) for i in range(6)]])
    answers = hf(windows, [text], null=True, top_k=2)[0]
    assert spans(answers) == [(0, 2), (0, 0)]
    assert [score for *_, score in answers] == pytest.approx([0.855, 0.387], abs=1e-3)
    answers = listed(decode(windows, handle_impossible_answer=True, top_k=7))[0]
    assert spans(answers[:1]) == [(0, 0)]
    assert sum(score for *_, score in answers) == pytest.approx(1)


def test_six_windows_certain_of_one_answer_score_six_in_transformers() -> None:
    context = words([1] * 6)
    windows = joined([[peak(context, (i, i), 20.0, first=i, last=i + 1) for i in range(6)]])
    assert hf(windows, [" ".join(["wa"] * 6)])[0][0][2] == pytest.approx(6.0)
    assert listed(decode(windows))[0][0][2] == pytest.approx(1 / 6)


def test_golden_scores_of_transformers_exceed_one() -> None:
    """The real output has forty windows. The question is so long that each window holds a single "war"."""
    scores = [score for group in golden.load()[0] for row in group.rows for score, *_ in row.answers]
    assert max(scores) > 12
    for group in golden.load()[0]:
        actual = decode(golden_windows(group), top_k=3, handle_impossible_answer=True)
        assert np.bincount(actual.ask, actual.score).max() <= 1 + SCORE


def test_equal_texts_at_two_positions_are_two_answers() -> None:
    """Transformers adds the scores of "wa" and "WA", ranks them above the better "xy", and gives the first position."""
    context, text = words([1, 1, 1]), "wa xy WA"
    start = np.array([1.0, 1.25, 1.0])
    windows = joined([[Window(context, 0, 3, start, start, (-9.0, -9.0))]])
    assert spans(hf(windows, [text], max_answer_len=1, top_k=3)[0]) == [(0, 2), (3, 5)]
    assert spans(listed(decode(windows, max_answer_len=1, top_k=3))[0]) == [(3, 5), (0, 2), (6, 8)]


def test_a_window_without_a_good_answer_does_not_win() -> None:
    """One window has two good answers, the other has a bad one. The bad one is certain relative to its own window."""
    context, text = words([1] * 4), "aa bb cc dd"
    good = Window(context, 0, 2, np.array([9.0, 9.0]), np.array([9.0, 8.0]))
    bad = peak(context, (3, 3), -2.0, null=-10.0, first=2, last=4)
    windows = joined([[good, bad]])
    assert spans(hf(windows, [text], max_answer_len=1)[0]) == [(9, 11)]
    assert spans(listed(decode(windows, max_answer_len=1))[0]) == [(0, 2)]

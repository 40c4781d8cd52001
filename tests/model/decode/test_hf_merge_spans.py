"""Tests of Transformers' merge of the spans of overlapping windows, against a loop."""

from itertools import groupby

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from distilray.model.decode.hf_merge_spans import hf_merge_windows
from distilray.model.decode.token_classification import EntitySpans
from tests.model.decode.decoding import spans_of

Entity = tuple[int, int, float, int]  # start, end, score, number


def naive_merge(entities: list[Entity]) -> list[int]:
    """Return the numbers of the entities of one text that Transformers keeps."""
    kept: list[Entity] = []
    for entity in sorted(entities, key=lambda e: e[0]):
        if not kept or entity[0] >= kept[-1][1]:
            kept.append(entity)
        elif (entity[1] - entity[0], entity[2]) > (kept[-1][1] - kept[-1][0], kept[-1][2]):
            kept[-1] = entity
    return [number for *_, number in kept]


@st.composite
def windowed_spans(draw: st.DrawFn) -> tuple[EntitySpans, np.ndarray]:
    """Draw the spans of the windows of a few texts, and the text of each window.

    The spans of a window are sorted and do not overlap.
    """
    text_of_window = np.repeat(np.arange(4), draw(st.lists(st.integers(0, 4), min_size=4, max_size=4)))
    window, start, end, score = [], [], [], []
    for i in range(len(text_of_window)):
        edges = sorted(draw(st.sets(st.integers(0, 40), max_size=12)))
        edges = edges[: len(edges) // 2 * 2]
        window += [i] * (len(edges) // 2)
        start += edges[::2]
        end += edges[1::2]
        score += draw(st.lists(st.sampled_from([0.25, 0.5, 1.0]), min_size=len(edges) // 2, max_size=len(edges) // 2))
    label = np.arange(len(start)) % 2
    spans = EntitySpans(
        np.array(window, dtype=np.int64),
        np.array(start, dtype=np.int32),
        np.array(end, dtype=np.int32),
        label,
        np.array(score, dtype=np.float32),
        ("A", "B"),
    )
    return spans, text_of_window


@settings(max_examples=50)
@given(windowed_spans())
def test_merging_windows_equals_a_loop(drawn: tuple[EntitySpans, np.ndarray]) -> None:
    spans, text_of_window = drawn
    numbered = list(
        zip(spans.start.tolist(), spans.end.tolist(), spans.score.tolist(), range(len(spans.start)), strict=True)
    )
    expected: list[int] = []
    for text, group in groupby(numbered, key=lambda entity: text_of_window[spans.text[entity[3]]]):
        entities = list(group)
        alone = (text_of_window == text).sum() == 1
        expected += [number for *_, number in entities] if alone else naive_merge(entities)
    merged = hf_merge_windows(spans, text_of_window)
    assert merged.text.tolist() == text_of_window[spans.text[expected]].tolist()
    for name in ("start", "end", "label", "score"):
        assert getattr(merged, name).tolist() == getattr(spans, name)[expected].tolist()


def test_a_long_uncertain_span_replaces_a_short_certain_one() -> None:
    """This is a defect of Transformers' merge. The compatible merge keeps it."""
    spans = EntitySpans(
        text=np.array([0, 1]),
        start=np.array([3, 0], dtype=np.int32),
        end=np.array([5, 4], dtype=np.int32),
        label=np.array([0, 1]),
        score=np.array([0.999, 0.3], dtype=np.float32),
        names=("A", "B"),
    )
    assert spans_of(hf_merge_windows(spans, np.array([0, 0]))) == [(0, 4, "B")]


def test_merging_the_windows_of_no_text_gives_no_spans() -> None:
    nothing = np.zeros(0, dtype=np.int64)
    spans = EntitySpans(nothing, nothing, nothing, nothing, nothing.astype(np.float32), ("A",))
    assert len(hf_merge_windows(spans, nothing).start) == 0

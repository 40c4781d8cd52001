"""Texts with highlighted spans: their pieces, their view in a terminal, and the escape of invisible characters."""

from distilray.pipeline.render.answers import Document, Line, RenderedAnswer
from distilray.pipeline.render.escape import escape_invisible, escape_line
from distilray.pipeline.render.highlight import Span, passage
from distilray.pipeline.terminal.text import highlighted


def test_pieces_cover_the_text_and_cut_overlaps() -> None:
    text = "\U0001f600 New York City Hall"
    spans = [Span(2, 15, "LOC", 0.9), Span(11, 20, "ORG", 0.8), Span(11, 15, "CITY", 0.7)]
    shown = passage(text, spans, 100)
    assert [piece.text for piece in shown.pieces] == ["\U0001f600 ", "New York ", "City", " Hall"]
    assert [piece.inside and piece.inside.label for piece in shown.pieces] == [None, "LOC", "LOC", "ORG"]
    assert [[span.label for span in piece.ending] for piece in shown.pieces] == [[], [], ["LOC", "CITY"], ["ORG"]]


def test_the_passage_covers_most_spans() -> None:
    spans = [Span(300, 305, "PER", 1), Span(311, 317, "LOC", 1), Span(5, 8, "ORG", 1)]
    text = "x" * 199 + " " + "y" * 99 + " Smith and  Berlin\nend" + " z" * 200
    (line,) = highlighted([Document("s3://bucket/a.parquet", 7, text, tuple(spans), ())], 220)
    assert line.plain.startswith("bucket/a.parquet row 7: \u2026")
    assert "[Smith PER] and  [Berlin LOC] end" in line.plain
    assert line.plain.endswith("\u2026")
    assert {str(span.style) for span in line.spans} >= {"bold magenta", "bold green"}


def test_a_text_without_spaces_is_shown_around_its_spans() -> None:
    text = "\u5317" * 5000
    shown = passage(text, [Span(4000, 4002, "LOC", 1)], 200)
    assert any(piece.inside for piece in shown.pieces)
    assert shown.end - shown.begin == 200


def test_invisible_characters_are_escaped_and_scripts_are_unchanged() -> None:
    assert escape_invisible("a\u202eb\x1b[31m\u2066\ufeff\U000e0041") == (
        "a\u27e8U+202E\u27e9b\u27e8U+001B\u27e9[31m\u27e8U+2066\u27e9\u27e8U+FEFF\u27e9\u27e8U+E0041\u27e9"
    )
    same = "\u05e2\u05d1\u05e8\u05d9\u05ea \u0939\u093f\u200d \U0001f468\u200d\U0001f469\tcaf\u00e9\nline"
    assert escape_invisible(same) == same
    assert escape_line("a\r\n\x1b]0;title\x07b\u202e") == "a ]0;title b\u27e8U+202E\u27e9"


def test_answers_without_spans_are_lines_and_long_lists_are_cut() -> None:
    lines = tuple(Line("", f"label{i}", 0.5) for i in range(9))
    (line,) = highlighted([Document("a", 0, "text", (), (RenderedAnswer("topic", lines, truncated=True),))], 100)
    assert "topic: label0 0.500" in line.plain
    assert "label5" not in line.plain
    assert "and 4 more" in line.plain
    assert "read only part of the text" in line.plain

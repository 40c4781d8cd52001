"""Documents and untrusted text in a terminal. Spans have colours and labels; markup in the text has no effect."""

from collections.abc import Iterator, Mapping, Sequence

from rich.text import Text

from distilray.pipeline.render.answers import Document, RenderedAnswer, labels_of
from distilray.pipeline.render.escape import escape_line
from distilray.pipeline.render.highlight import Piece, passage
from distilray.pipeline.sink.dead_letter_summary import DeadLetter

_COLOURS = ("green", "cyan", "magenta", "yellow", "blue", "red")
_MAX_LINES = 5  # of one task's answers


def highlighted(documents: Sequence[Document], size: int) -> Iterator[Text]:
    """Yield each document as a passage with its spans in colour, and below it the answers that mark no span.

    size: the length of a passage, in characters.
    """
    colours = {label: _COLOURS[number % len(_COLOURS)] for label, number in labels_of(documents).items()}
    for document in documents:
        line = Text.assemble((f"{escape_line(document.address)}: ", "dim"))
        excerpt = passage(document.text, document.spans, size)
        line.append("\u2026" if excerpt.begin else "")
        for piece in excerpt.pieces:
            _append_piece(line, piece, colours)
        line.append("\u2026" if excerpt.end < excerpt.length else "")
        for answer in document.answers:
            _append_answer(line, answer)
        yield line


def plain_text(text: str) -> Text:
    """Return untrusted text of a model or a corpus, escaped line by line and without markup."""
    return Text("\n".join(escape_line(line) for line in text.split("\n")))


def _append_piece(line: Text, piece: Piece, colours: Mapping[str, str]) -> None:
    text = escape_line(piece.text)
    if piece.inside is None:
        line.append(text)
        return
    for span in piece.starting:
        line.append("[", style=colours[span.label])
    line.append(text, style=f"bold {colours[piece.inside.label]}")
    for span in piece.ending:
        line.append(f" {escape_line(span.label)}]", style=colours[span.label])


def _append_answer(line: Text, answer: RenderedAnswer) -> None:
    for number, each in enumerate(answer.lines[:_MAX_LINES]):
        line.append(f"\n    {answer.task}: " if not number else "\n      ", style="dim")
        line.append(f"{escape_line(each.about)}: " if each.about else "", style="dim")
        line.append(escape_line(each.answer))
        line.append(f" {each.score:.3f}" if each.score is not None else "", style="dim")
    if len(answer.lines) > _MAX_LINES:
        line.append(f"\n      and {len(answer.lines) - _MAX_LINES:,} more", style="dim")
    if answer.truncated:
        line.append(f"\n    {answer.task} read only part of the text, as the job is configured", style="dim")


def dead_letter_lines(dead_letters: Sequence[DeadLetter]) -> Iterator[Text]:
    """Yield a line per dead letter: its shard and row, then its stage, reason and message."""
    for letter in dead_letters:
        where = "the whole shard" if letter.row is None else f"row {letter.row}"
        line = Text.assemble((f"{escape_line('/'.join(letter.shard.split('/')[-2:]))} {where}: ", "dim"))
        line.append(f"rejected in {letter.stage}, {letter.reason}: ", style="bold red")
        yield line.append(escape_line(letter.message))

"""Documents and strangers' words in a terminal: spans in colour with their labels, no markup."""

from collections.abc import Iterator, Mapping, Sequence

from rich.text import Text

from distilray.pipeline.render.answers import Document, RenderedAnswer, labels_of
from distilray.pipeline.render.escape import escape_line
from distilray.pipeline.render.highlight import Piece, passage
from distilray.pipeline.sink.dead_letters import DeadLetter

_COLOURS = ("green", "cyan", "magenta", "yellow", "blue", "red")
_LINES = 5  # of a task's answers


def highlighted(documents: Sequence[Document], size: int) -> Iterator[Text]:
    """For each document a passage of about `size` characters, and below it what tasks say that mark nothing."""
    colours = {label: _COLOURS[number % len(_COLOURS)] for label, number in labels_of(documents).items()}
    for document in documents:
        line = Text.assemble((f"{escape_line(document.address)}: ", "dim"))
        shown = passage(document.text, document.spans, size)
        line.append("\u2026" if shown.begin else "")
        for piece in shown.pieces:
            _append(line, piece, colours)
        line.append("\u2026" if shown.end < shown.length else "")
        for said in document.said:
            _say(line, said)
        yield line


def plainly(words: str) -> Text:
    """Words of a model or a corpus: what looks like markup in them is none."""
    return Text("\n".join(escape_line(line) for line in words.split("\n")))


def _append(line: Text, piece: Piece, colours: Mapping[str, str]) -> None:
    text = escape_line(piece.text)
    if piece.inside is None:
        line.append(text)
        return
    for span in piece.starting:
        line.append("[", style=colours[span.label])
    line.append(text, style=f"bold {colours[piece.inside.label]}")
    for span in piece.ending:
        line.append(f" {escape_line(span.label)}]", style=colours[span.label])


def _say(line: Text, said: RenderedAnswer) -> None:
    for number, each in enumerate(said.lines[:_LINES]):
        line.append(f"\n    {said.task}: " if not number else "\n      ", style="dim")
        line.append(f"{escape_line(each.about)}: " if each.about else "", style="dim")
        line.append(escape_line(each.answer))
        line.append(f" {each.score:.3f}" if each.score is not None else "", style="dim")
    if len(said.lines) > _LINES:
        line.append(f"\n      and {len(said.lines) - _LINES:,} more", style="dim")
    if said.truncated:
        line.append(f"\n    {said.task} did not read all of the text, as the job asks for", style="dim")


def dead_rows(letters: Sequence[DeadLetter]) -> Iterator[Text]:
    """A line for each: where, and why."""
    for letter in letters:
        where = "the whole shard" if letter.row is None else f"row {letter.row}"
        line = Text.assemble((f"{escape_line('/'.join(letter.shard.split('/')[-2:]))} {where}: ", "dim"))
        line.append(f"dead in {letter.stage}, {letter.reason}: ", style="bold red")
        yield line.append(escape_line(letter.message))

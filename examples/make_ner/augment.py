"""Training text: pieces of speeches, the same pieces with names replaced, and sentences from templates."""

import random
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from names import Namer
from shared import Span
from templates import LATER_TEMPLATES, TEMPLATES

SIZES = (1, 200, 500, 1000, 1600)  # minimum characters of a piece
SENTENCE_GAP = re.compile(r"(?<![A-Z]\.)(?<!Mr\.)(?<!Mrs\.)(?<=[.?!\"\u201d])\s+(?=[A-Z\"\u201c])")


class Example(NamedTuple):
    """A text and its names."""

    text: str
    spans: list[Span]


def fill(template: str, name: Namer) -> Example:
    """Replace the braces of a template by names."""
    text, spans = "", []
    for i, part in enumerate(re.split(r"\{(\w+)\}", template)):
        generated = name(part) if i % 2 else part
        kind = "PER" if part in ("first", "last") else part
        if i % 2 and kind in ("PER", "LOC", "ORG"):
            spans.append((len(text), len(text) + len(generated), kind))
        text += generated
    return Example(text, spans)


def from_templates(templates: list[str], count: int, name: Namer, rng: random.Random) -> Iterator[Example]:
    """Yield texts of one to four template sentences."""
    for _ in range(count):
        text, spans = "", []
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            part = fill(rng.choice(templates), name)
            spans += [(s + len(text), e + len(text), label) for s, e, label in part.spans]
            text += part.text + " "
        yield Example(text.rstrip(), spans)


def replace_names(example: Example, name: Namer, rng: random.Random) -> Example:
    """Replace about half of the names of a text, each name everywhere by the same one."""
    new: dict[str, str] = {}
    text, spans, last = "", [], 0
    for s, e, label in example.spans:
        old = example.text[s:e]
        if old not in new:
            kind = "last" if label == "PER" and " " not in old else label
            new[old] = name(kind) if label != "?" and rng.random() < 0.5 else old
        text += example.text[last:s]
        spans.append((len(text), len(text) + len(new[old]), label))
        text, last = text + new[old], e
    return Example(text + example.text[last:], spans)


def chunks(text: str, spans: list[Span], rng: random.Random) -> Iterator[Example]:
    """Cut a text at sentence ends into pieces of various lengths."""
    start, size = 0, rng.choice(SIZES)
    for end in [*(m.end() for m in SENTENCE_GAP.finditer(text)), len(text)]:
        if end - start >= size or end == len(text):
            inside = [(s - start, e - start, label) for s, e, label in spans if s >= start and e <= end]
            yield Example(text[start:end].rstrip(), inside)
            start, size = end, rng.choice(SIZES)


def pieces(silver: list[dict[str, Any]], rng: random.Random) -> Iterator[Example]:
    """Yield the pieces of all speeches, cut at new random sizes."""
    for record in silver:
        yield from chunks(record["text"], record["spans"], rng)


def main_pass(silver: list[dict[str, Any]], name: Namer, rng: random.Random) -> list[Example]:
    """Make the main examples: most pieces of the speeches, two of five with names replaced, and templates."""
    chosen = (x for x in pieces(silver, rng) if x.spans or rng.random() < 0.4)
    speeches = [replace_names(x, name, rng) if rng.random() < 0.4 else x for x in chosen]
    return [*speeches, *from_templates(TEMPLATES, 6000, name, rng)]


def people_pass(silver: list[dict[str, Any]], name: Namer, rng: random.Random) -> list[Example]:
    """Make the examples of the last pass, which has more people, because the speeches name few.

    A piece that names people occurs four times, three of them with names replaced. A quarter of the other pieces
    remains. Templates follow. Names such as "Bosnia and Herzegovina" are excluded: the main pass has many of them, and
    the model read "Kenya and Ghana" as one place.
    """

    def short(kind: str) -> str:
        while re.search(r",| and ", generated := name(kind)):
            pass
        return generated

    out = []
    for example in pieces(silver, rng):
        if any(label == "PER" for *_, label in example.spans):
            out += [example, *(replace_names(example, short, rng) for _ in range(3))]
        elif rng.random() < 0.25:
            out.append(example)
    return [*out, *from_templates(TEMPLATES + LATER_TEMPLATES * 2, 6000, short, rng)]

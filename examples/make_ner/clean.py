"""Conversion of the teacher's spans to consistent silver labels."""

import re
from collections import Counter
from collections.abc import Iterable

from rules import DROP, FORCED, NEVER, PREFIX, TITLES
from shared import Span


def clean_span(text: str, start: int, end: int, label: str) -> Span | None:
    """Remove articles, titles and possessives from a span. Return None if no name is left."""
    while m := PREFIX.match(text, start, end) or (TITLES.match(text, start, end) if label == "PER" else None):
        if m.end() >= end:
            break
        start = m.end()
    if m := re.search(r"(?:['\u2019]s?|(?<!\b[A-Z])\.|[^\w.)])+$", text[start:end]):
        end -= len(m.group())
    form = text[start:end]
    named = re.match(r"(?:bin |al-|van |von |de )?[A-Z]", form) and len(form) <= 60
    return (start, end, label) if named and form not in NEVER and not DROP.fullmatch(form) else None


def is_common_word(text: str, span: Span, words: Counter[str]) -> bool:
    """Return whether a span is one ordinary word that is capitalised only at the start of a sentence."""
    form = text[span[0] : span[1]]
    opens = re.search(r"(?:^|[.?!:;][\"'\u201d\u2019)]?\s*)$", text[max(0, span[0] - 4) : span[0]])
    return opens is not None and words[form.lower()] > 2 * words[form]


def any_of(forms: Iterable[str]) -> re.Pattern[str]:
    """Compile a pattern that matches any of the forms as whole words, the longest first."""
    return re.compile(r"\b(?=[A-Z])(?:" + "|".join(map(re.escape, sorted(forms, key=len, reverse=True))) + r")(?!\w)")


def consistent_labels(texts: list[str], teacher_spans: list[list[Span]]) -> dict[str, str]:
    """Find the forms whose label is clear in the corpus: form -> label. "O" marks a form that is mostly no name."""
    occurrences = Counter(t[s:e] for t, spans in zip(texts, teacher_spans, strict=True) for s, e, _ in spans)
    votes: dict[str, Counter[str]] = {form: Counter() for form, n in occurrences.items() if n >= 3}
    pattern = any_of(votes)
    for text, spans in zip(texts, teacher_spans, strict=True):
        cover = ["O"] * len(text)
        for s, e, label in spans:
            cover[s:e] = [label] * (e - s)
        for m in pattern.finditer(text):
            votes[m.group()][cover[m.start()]] += 1
    out = {}
    for form, vote in votes.items():
        if vote.total() >= 4:
            label, count = vote.most_common(1)[0]
            if count >= (0.7 if label != "O" else 0.6) * vote.total():
                out[form] = label
    return out


def merge(text: str, spans: list[Span], label_of: dict[str, str], pattern: re.Pattern[str]) -> list[Span]:
    """Merge all spans of a text in order of precedence.

    The order is: forced names, the teacher's longer spans, names with a consistent label, the teacher's other spans.
    "?" marks a doubtful span, which the training ignores.
    """
    forced = [(m.start(), m.end(), label) for label, p in FORCED for m in re.finditer(rf"\b(?:{p})(?!\w)", text)]
    longer = [s for s in spans if text[s[0] : s[1]] not in label_of and " " in text[s[0] : s[1]]]
    labelled = [(m.start(), m.end(), label_of[m.group()]) for m in pattern.finditer(text)]
    covered, out = bytearray(len(text)), []
    for span in [*forced, *longer, *labelled, *spans]:
        start, end, label = span
        if any(covered[start:end]):
            continue
        covered[start:end] = b"\x01" * (end - start)
        form = text[start:end]
        doubtful = label == "ORG" and span not in forced and form not in label_of and " " not in form
        if label != "O":
            out.append((start, end, "?" if doubtful else label))
    return sorted(out)

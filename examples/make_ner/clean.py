"""Turn the teacher's spans into consistent silver labels."""

import re
from collections import Counter
from collections.abc import Iterable

from rules import DROP, FORCED, NEVER, PREFIX, TITLES
from shared import Span


def tidy(text: str, start: int, end: int, label: str) -> Span | None:
    """Cut articles, titles and possessives off a span; None if no name is left."""
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
    """Is this one ordinary word that is capitalised only because it opens a sentence?"""
    form = text[span[0] : span[1]]
    opens = re.search(r"(?:^|[.?!:;][\"'\u201d\u2019)]?\s*)$", text[max(0, span[0] - 4) : span[0]])
    return opens is not None and words[form.lower()] > 2 * words[form]


def any_of(forms: Iterable[str]) -> re.Pattern[str]:
    """Matches any of the forms as whole words, the longest first."""
    return re.compile(r"\b(?=[A-Z])(?:" + "|".join(map(re.escape, sorted(forms, key=len, reverse=True))) + r")(?!\w)")


def settle(texts: list[str], taught: list[list[Span]]) -> dict[str, str]:
    """Names whose label is clear from the whole corpus: form -> label, "O" for what is mostly no name."""
    seen = Counter(t[s:e] for t, spans in zip(texts, taught, strict=True) for s, e, _ in spans)
    votes: dict[str, Counter[str]] = {form: Counter() for form, n in seen.items() if n >= 3}
    pattern = any_of(votes)
    for text, spans in zip(texts, taught, strict=True):
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


def merge(text: str, spans: list[Span], settled: dict[str, str], pattern: re.Pattern[str]) -> list[Span]:
    """Forced names first, then the teacher's longer spans, then settled names, then the teacher's other spans.

    "?" marks a doubtful span, which training passes over.
    """
    forced = [(m.start(), m.end(), label) for label, p in FORCED for m in re.finditer(rf"\b(?:{p})(?!\w)", text)]
    longer = [s for s in spans if text[s[0] : s[1]] not in settled and " " in text[s[0] : s[1]]]
    known = [(m.start(), m.end(), settled[m.group()]) for m in pattern.finditer(text)]
    taken, out = bytearray(len(text)), []
    for span in [*forced, *longer, *known, *spans]:
        start, end, label = span
        if any(taken[start:end]):
            continue
        taken[start:end] = b"\x01" * (end - start)
        form = text[start:end]
        doubtful = label == "ORG" and span not in forced and form not in settled and " " not in form
        if label != "O":
            out.append((start, end, "?" if doubtful else label))
    return sorted(out)

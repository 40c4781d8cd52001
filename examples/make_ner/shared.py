"""Paths of the files, the labels, and the type of a span."""

from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent.parent
MODEL, CORPUS, GOLD = EXAMPLES / "models" / "ner", EXAMPLES / "corpus", EXAMPLES / "gold.jsonl"

LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG", "I-ORG"]
Span = tuple[int, int, str]  # start, end, label: PER, LOC or ORG, or "?" for a doubtful name

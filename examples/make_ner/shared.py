"""Where the files lie, and what a span and a label are."""

from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent.parent
MODEL, CORPUS, GOLD = EXAMPLES / "models" / "ner", EXAMPLES / "corpus", EXAMPLES / "gold.jsonl"

LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG", "I-ORG"]
Span = tuple[int, int, str]  # start, end, label: PER, LOC or ORG, or "?" for a doubtful name

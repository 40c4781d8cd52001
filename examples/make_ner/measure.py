"""F1 of the model against the gold set, and F1 of its training labels."""

import json
from pathlib import Path

import torch
from clean import clean_span
from corpus import read_corpus
from shared import GOLD, LABELS, MODEL, Span
from transformers import AutoModelForTokenClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

WINDOW = 400  # pieces
Spans = set[tuple[str, int, int, str]]  # id of the address, start, end, label


def predict(text: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[Span]:
    """Predict the spans of a text.

    Each word has the label of its first piece. The labels are IOB2; an I- without a B- before it opens a span too.
    """
    encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ids, words = encoding["input_ids"], encoding.word_ids()
    best: list[int] = []
    while len(best) < len(ids):
        start = len(best)
        end = min(start + WINDOW, len(ids))
        while end < len(ids) and words[end] == words[end - 1]:
            end -= 1
        window = torch.tensor([[tokenizer.cls_token_id, *ids[start:end], tokenizer.sep_token_id]])
        with torch.no_grad():
            best += model(input_ids=window).logits[0, 1:-1].argmax(-1).tolist()
    spans: list[Span] = []
    tag = "O"
    for i, (start, end) in enumerate(encoding["offset_mapping"]):
        last_tag = tag
        same_word = i > 0 and words[i] == words[i - 1]
        tag = tag if same_word else LABELS[best[i]]
        if tag != "O" and (same_word or (tag[0] == "I" and last_tag[1:] == tag[1:])):
            spans[-1] = (spans[-1][0], end, spans[-1][2])
        elif tag != "O":
            spans.append((start, end, tag[2:]))
    return spans


def score(gold: Spans, predicted: Spans) -> str:
    """Compute F1, precision and recall of all labels and of each. Start, end and label must be equal."""
    lines = []
    for label in ("all", "PER", "LOC", "ORG"):
        g, f = ({x for x in xs if label in ("all", x[-1])} for xs in (gold, predicted))
        hits = len(g & f)
        p, r = hits / max(1, len(f)), hits / max(1, len(g))
        f1 = 2 * p * r / max(1e-9, p + r)
        lines.append(f"  {label:4} F1 {f1:.3f}  precision {p:.3f}  recall {r:.3f}  ({len(g)} true, {len(f)} predicted)")
    return "\n".join(lines)


def run(work: Path) -> None:
    """Print F1 against gold.jsonl. If WORK has silver labels (after `silver`), print F1 of and against them too."""
    torch.set_num_threads(1)
    model = AutoModelForTokenClassification.from_pretrained(MODEL, dtype=torch.float32).train(False)
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    texts = read_corpus()
    gold = [json.loads(line) for line in GOLD.open()]
    truth = {(g["id"], e["start"], e["end"], e["label"]) for g in gold for e in g["entities"]}

    def print_scores(title: str, spans: dict[str, list[Span]]) -> None:
        inside = {(g["id"], s, e, x) for g in gold for s, e, x in spans[g["id"]] if s >= g["start"] and e <= g["end"]}
        print(f"{title} against gold\n{score(truth, inside)}")

    predicted = {key: predict(text, model, tokenizer) for key, text in texts.items()}
    print_scores("model", predicted)
    if not (work / "silver.jsonl").exists():
        return
    records = [json.loads(line) for line in (work / "silver.jsonl").open()]
    silver = {r["id"]: [s for s in r["spans"] if s[2] != "?"] for r in records}
    teacher = dict(zip([r["id"] for r in records], json.loads((work / "teacher.json").read_text()), strict=True))
    print_scores("teacher", teacher)
    print_scores(
        "teacher, spans cleaned,",
        {key: [s for e in teacher[key] if (s := clean_span(t, *e))] for key, t in texts.items()},
    )
    print_scores("silver labels", silver)
    silver_all, predicted_all = (
        {(key, *span) for key in texts for span in spans[key]} for spans in (silver, predicted)
    )
    print("model against silver labels, all held-out addresses\n" + score(silver_all, predicted_all))

"""F1 of the model against the gold set, and of what it was trained on."""

import json
from pathlib import Path

import torch
from clean import tidy
from corpus import read_corpus
from shared import GOLD, LABELS, MODEL, Span
from transformers import AutoModelForTokenClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

WINDOW = 400  # pieces at a time
Found = set[tuple[str, int, int, str]]  # id of the address, start, end, label


def predict(text: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[Span]:
    """Spans of a text: each word has its first piece's label; IOB2, where a stray I- opens a span as well."""
    got = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ids, words = got["input_ids"], got.word_ids()
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
    for i, (start, end) in enumerate(got["offset_mapping"]):
        before = tag
        same_word = i > 0 and words[i] == words[i - 1]
        tag = tag if same_word else LABELS[best[i]]
        if tag != "O" and (same_word or (tag[0] == "I" and before[1:] == tag[1:])):
            spans[-1] = (spans[-1][0], end, spans[-1][2])
        elif tag != "O":
            spans.append((start, end, tag[2:]))
    return spans


def score(gold: Found, found: Found) -> str:
    """F1, precision and recall, of all labels and of each; exact start, end and label."""
    lines = []
    for label in ("all", "PER", "LOC", "ORG"):
        g, f = ({x for x in xs if label in ("all", x[-1])} for xs in (gold, found))
        hits = len(g & f)
        p, r = hits / max(1, len(f)), hits / max(1, len(g))
        f1 = 2 * p * r / max(1e-9, p + r)
        lines.append(f"  {label:4} F1 {f1:.3f}  precision {p:.3f}  recall {r:.3f}  ({len(g)} true, {len(f)} found)")
    return "\n".join(lines)


def run(work: Path) -> None:
    """Print F1 against gold.jsonl; also of and against the silver labels where WORK has them (after `silver`)."""
    torch.set_num_threads(1)
    model = AutoModelForTokenClassification.from_pretrained(MODEL, dtype=torch.float32).train(False)
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    texts = read_corpus()
    gold = [json.loads(line) for line in GOLD.open()]
    truth = {(g["id"], e["start"], e["end"], e["label"]) for g in gold for e in g["entities"]}

    def report(title: str, spans: dict[str, list[Span]]) -> None:
        inside = {(g["id"], s, e, x) for g in gold for s, e, x in spans[g["id"]] if s >= g["start"] and e <= g["end"]}
        print(f"{title} against gold\n{score(truth, inside)}")

    found = {key: predict(text, model, tokenizer) for key, text in texts.items()}
    report("model", found)
    if not (work / "silver.jsonl").exists():
        return
    records = [json.loads(line) for line in (work / "silver.jsonl").open()]
    silver = {r["id"]: [s for s in r["spans"] if s[2] != "?"] for r in records}
    teacher = dict(zip([r["id"] for r in records], json.loads((work / "teacher.json").read_text()), strict=True))
    report("teacher", teacher)
    report("teacher, spans tidied,", {key: [s for e in teacher[key] if (s := tidy(t, *e))] for key, t in texts.items()})
    report("silver labels", silver)
    silver_all, found_all = ({(key, *span) for key in texts for span in spans[key]} for spans in (silver, found))
    print("model against silver labels, all held-out addresses\n" + score(silver_all, found_all))

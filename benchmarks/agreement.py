"""Agreement between the ways of benchmarks/end_to_end.py: docs is (a), sorted is (b), ours is (c)."""

import json
from typing import Any

import pyarrow.dataset as ds

LENGTH = 512  # tokens at which total way cuts a document


def answers(way: str, out: str) -> dict[int, Any]:
    """Read the spans by document, or for (b) the labels of its tokens."""
    column = "labels" if way == "sorted" else "entities"
    table = ds.dataset(f"{out}/data" if way == "ours" else out).to_table(columns=["id", column])
    rows = zip(table["id"].to_pylist(), table[column].to_pylist(), strict=True)
    if way == "sorted":
        return dict(rows)
    if way == "docs":
        return {number: {tuple(span) for span in json.loads(row)} for number, row in rows}
    return {number: {(e["start"], e["end"], e["label"]) for e in row} for number, row in rows}


def agreement(outs: dict[str, str], texts: list[str], model: str) -> dict[str, float]:
    """Compute the share of equal answers.

    docs: the spans that (a) and (c) have in common, as a share of the spans that either has.
    sorted: the spans of (c) for whose first token (b) has the same label, as a share of the spans of (c).
    Raises ValueError if rows are missing."""
    import transformers  # noqa: PLC0415

    by_way = {way: answers(way, out) for way, out in outs.items()}
    for way, rows in by_way.items():
        if sorted(rows) != list(range(len(texts))):
            raise ValueError(f"{way}: expected {len(texts)} rows, got {len(rows)}")
    common = sum(len(by_way["ours"][i] & by_way["docs"][i]) for i in by_way["ours"])
    either = sum(len(by_way["ours"][i] | by_way["docs"][i]) for i in by_way["ours"])
    config = transformers.AutoConfig.from_pretrained(model)
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    offsets = tokenizer(texts, truncation=True, max_length=LENGTH, return_offsets_mapping=True)["offset_mapping"]
    same_label = total = 0
    for i, spans in by_way["ours"].items():
        at = {start: n for n, (start, _) in enumerate(offsets[i][1:-1])}
        total += len(spans)
        same_label += sum(
            config.id2label[by_way["sorted"][i][at[start]]].split("-")[-1] == label for start, _, label in spans
        )
    return {"docs": common / max(either, 1), "sorted": same_label / max(total, 1), "spans": total}

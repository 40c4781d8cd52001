"""Whether the ways of benchmarks/end_to_end.py give the same answers: docs is (a), sorted is (b), ours is (c)."""

import json
from typing import Any

import pyarrow.dataset as ds

LENGTH = 512  # tokens at which every way cuts a document


def answers(way: str, out: str) -> dict[int, Any]:
    """Spans by document, or of (b) the label of each token."""
    column = "labels" if way == "sorted" else "entities"
    table = ds.dataset(f"{out}/data" if way == "ours" else out).to_table(columns=["id", column])
    rows = zip(table["id"].to_pylist(), table[column].to_pylist(), strict=True)
    if way == "sorted":
        return dict(rows)
    if way == "docs":
        return {number: {tuple(span) for span in json.loads(row)} for number, row in rows}
    return {number: {(e["start"], e["end"], e["label"]) for e in row} for number, row in rows}


def agreement(outs: dict[str, str], texts: list[str], model: str) -> dict[str, float]:
    """Share of our spans that (a) has too, of all that either has; and of those at whose first token (b) says the same label.

    Raises ValueError for rows that are missing."""
    import transformers  # noqa: PLC0415

    found = {way: answers(way, out) for way, out in outs.items()}
    for way, rows in found.items():
        if sorted(rows) != list(range(len(texts))):
            raise ValueError(f"{way}: expected {len(texts)} rows, got {len(rows)}")
    same = sum(len(found["ours"][i] & found["docs"][i]) for i in found["ours"])
    either = sum(len(found["ours"][i] | found["docs"][i]) for i in found["ours"])
    config = transformers.AutoConfig.from_pretrained(model)
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    offsets = tokenizer(texts, truncation=True, max_length=LENGTH, return_offsets_mapping=True)["offset_mapping"]
    right = every = 0
    for i, spans in found["ours"].items():
        at = {start: n for n, (start, _) in enumerate(offsets[i][1:-1])}
        every += len(spans)
        right += sum(
            config.id2label[found["sorted"][i][at[start]]].split("-")[-1] == label for start, _, label in spans
        )
    return {"docs": same / max(either, 1), "sorted": right / max(every, 1), "spans": every}

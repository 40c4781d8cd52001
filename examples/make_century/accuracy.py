"""Accuracy of the model on the addresses that are not in its training data."""

import pyarrow.dataset as ds
import torch
from assemble import CENTURY
from head import CENTURIES, WINDOWS, windows
from shared import CORPUS
from transformers import AutoModelForSequenceClassification, AutoTokenizer


def run() -> None:
    """Print the accuracy by window and by address, and the confusion matrix of the centuries."""
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(CENTURY)
    model = AutoModelForSequenceClassification.from_pretrained(CENTURY, dtype=torch.float32).train(False)
    rows = ds.dataset(CORPUS, partitioning="hive").to_table(columns=["text", "century"]).to_pylist()
    for size in WINDOWS:
        hits = total = 0
        confusion = torch.zeros(len(CENTURIES), len(CENTURIES), dtype=torch.int)
        for row in rows:
            ids = tokenizer(row["text"], add_special_tokens=False, verbose=False)["input_ids"]
            sequences = [[tokenizer.cls_token_id, *window, tokenizer.sep_token_id] for window in windows(ids, size)]
            with torch.no_grad():
                logits = torch.cat([model(batch).logits for batch in torch.tensor(sequences).split(16)])
            true = CENTURIES.index(row["century"])
            hits += int((logits.argmax(1) == true).sum())
            total += len(sequences)
            confusion[true, logits.mean(0).argmax()] += 1
        print(f"windows of {size} pieces: {hits / total:.3f} of {total} right; ", end="")
        print(f"the mean of their logits: {int(confusion.trace())} of {len(rows)} addresses right")
        print(*(f"  {true}: {row}" for true, row in zip(CENTURIES, confusion.tolist(), strict=True)), sep="\n")

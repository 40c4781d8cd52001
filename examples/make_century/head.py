"""Training of the head: logistic layers on the frozen encoder's [CLS] vectors."""

import json
from pathlib import Path

import torch
from assemble import CENTURY, NER
from corpus import Address, century, split_addresses
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoTokenizer, DistilBertModel

CENTURIES = [18, 19, 20, 21]
WINDOWS = (400, 100)  # pieces: the longest window that the encoder was trained for, and a paragraph
PASSES, BATCH, RATE = 16, 256, 1e-3


def windows(ids: list[int], size: int) -> list[list[int]]:
    """Cut a text into consecutive windows of `size` pieces. The last window starts earlier so that it is no shorter."""
    return [ids[i : i + size] for i in range(0, len(ids) - size, size)] + [ids[-size:]]


def features(addresses: list[Address]) -> tuple[Tensor, Tensor]:
    """Compute the encoder's [CLS] vector of every window of the addresses, and the number of its class."""
    tokenizer = AutoTokenizer.from_pretrained(NER)
    encoder = DistilBertModel.from_pretrained(NER, dtype=torch.float32).train(False)
    vectors, classes = [], []
    for address in addresses:
        ids = tokenizer(address.text, add_special_tokens=False, verbose=False)["input_ids"]
        for size in WINDOWS:
            sequences = [[tokenizer.cls_token_id, *window, tokenizer.sep_token_id] for window in windows(ids, size)]
            with torch.no_grad():
                vectors += [
                    encoder(batch).last_hidden_state[:, 0].clone() for batch in torch.tensor(sequences).split(16)
                ]
            classes += [CENTURIES.index(century(address))] * len(sequences)
    return torch.cat(vectors), torch.tensor(classes)


def fit(x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Train the head and return its weights. Rare classes weigh more, by the root of their inverse share."""
    mean, std = x.mean(0), x.std(0)
    head = nn.Sequential(nn.Linear(384, 384), nn.ReLU(), nn.Dropout(0.2), nn.Linear(384, len(CENTURIES)))
    count = torch.bincount(y)
    loss = nn.CrossEntropyLoss(weight=(count.sum() / count / len(count)).sqrt())
    optimizer = torch.optim.AdamW(head.parameters(), lr=RATE, weight_decay=0.05)
    steps = PASSES * -(-len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    for _ in range(PASSES):
        for batch in torch.randperm(len(x)).split(BATCH):
            loss(head((x[batch] - mean) / std), y[batch]).backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    first, last = head[0], head[-1]
    weight = first.weight / std  # folds the normalization into the first layer
    return {
        "pre_classifier.weight": weight,
        "pre_classifier.bias": first.bias - weight @ mean,
        "classifier.weight": last.weight,
        "classifier.bias": last.bias,
    }


def run(work: Path) -> None:
    """Write head.safetensors, the configuration and the NER model's tokenizer into models/century."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    head = fit(*features(split_addresses(work)[0]))
    CENTURY.mkdir(exist_ok=True)
    save_file({k: v.detach().half().contiguous() for k, v in head.items()}, CENTURY / "head.safetensors")
    config = json.loads((NER / "config.json").read_text())
    config |= {
        "architectures": ["DistilBertForSequenceClassification"],
        "id2label": {str(i): str(c) for i, c in enumerate(CENTURIES)},
        "label2id": {str(c): i for i, c in enumerate(CENTURIES)},
        "problem_type": "single_label_classification",
    }
    (CENTURY / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    for name in ("vocab.txt", "tokenizer_config.json"):
        (CENTURY / name).write_bytes((NER / name).read_bytes())

"""The script that writes question_answering.json.gz with Transformers 4.57.

That is the last version with a question answering pipeline. Run it by hand to add rows:

    pip install --no-deps --target OLD "transformers==4.57.*" "huggingface_hub<1" "tokenizers>=0.22,<=0.23"
    PYTHONPATH=OLD:. OMP_NUM_THREADS=1 python -m tests.golden.make_question_answering

It uses the torch of the development environment. The file holds the logits that the pipeline received. The answers are
therefore correct on every machine.
"""

import random
from itertools import cycle
from typing import Any

import numpy as np
import transformers
from transformers import DistilBertTokenizerFast
from transformers.pipelines.question_answering import QuestionAnsweringPipeline

from tests.golden.question_answering import STEP, TOKENIZER, Group, Row, build_model, corpus, save

SHARDS = tuple(f"century={century}/part-0.parquet" for century in (18, 19, 20, 21))
TEXTS_PER_SHARD = (2, 20, 20, 5)
QUESTIONS = (
    "Who?",
    "what",
    "?",
    "Who was the president?",
    "Which nations signed the treaty with the United States?",
    "How many soldiers served in the army during the war?",
    "When did Congress adjourn?",
    "Where did the commissioners meet, and on what day did they report to the Senate?",
    "What is the balance in the Treasury at the end of the fiscal year?",
    "Why were the duties on imports reduced?",
    "What does the message say about peace, commerce, and the Indian tribes on the frontier?",
    "the the the the the",
    "Who's the Secretary of War (1812)?",
    "$1,000,000.50 -- for what?",
    (
        "What was recommended to the consideration of Congress with respect to the currency, the banks, the public debt, "
        "the sale of public lands, and the improvement of rivers and harbors?"
    ),
    "caf\u00e9 na\u00efve \u00dcberlingen?",
    "cafe\u0301 nai\u0308ve U\u0308berlingen?",
    "\u8ab0\u304c\u5927\u7d71\u9818\u3067\u3059\u304b\uff1f",
    "smile \U0001f600 family \U0001f468\u200d\U0001f469\u200d\U0001f467?",
    "con\x00trol\x07 char\x1bac\u200bters\ufeff?",
    "[SEP] what is [MASK]?",
    "WHO SIGNED IT?",
)
# texts that reveal errors of tokenizers, and texts with repeated answers
HARD = (
    "caf\u00e9 na\u00efve \u00dcberlingen \u00c5ngstr\u00f6m visited Washington",
    "cafe\u0301 nai\u0308ve U\u0308berlingen a\u030angstro\u0308m visited Washington",
    "\u5317\u4eac is \u4e2d\u56fd's capital \u6771\u4eac and \u65e5\u672c",
    "smile \U0001f600 family \U0001f468\u200d\U0001f469\u200d\U0001f467 flag \U0001f1e9\U0001f1ea end",
    "con\x00trol\x07 char\x1bac\u200bters\ufeff here\x7f and after",
    "x" * 101 + " president " + "lincoln" * 30 + " washington",
    "[SEP] literal [MASK] tokens [UNK] [PAD] in a text",
    "tabs\tand\nnew\r\nlines\u00a0nbsp\u3000ideographic\u2028separator",
    "U.S. state-of-the-art O'Brien (1862) $1,000.50 50% e-mail@x.org",
    "\u0130stanbul \u1e9e \ufb01 \u01c5 \u212b \u2460 \u03a3\u03a3 \u03c3\u03c2",
    "\u202eright to left\u202c \u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u05e2\u05d1\u05e8\u05d9\u05ea",
    "\uac00\ub098\ub2e4 \u0939\u093f\u0928\u094d\u0926\u0940 \u0e44\u0e17\u0e22",
    "Congress met. CONGRESS met again. The congress met; congress adjourned.",
    "war " * 70,
    "The war ended. Peace came to the United States. " * 12,
    "antidisestablishmentarianism " * 14,
    "na\u00efve cafe\u0301 \u5317\u4eac \U0001f600 \x07 peace. " * 15,
    "!!!???...,,,;;;",
    "a",
    ".",
)

ONE = (1, 2, 3, 5, 9, 14, 22, 35)
SOME = (4, 17, 40, 46, 52, 58, 64, 72)
SMALL = {"max_seq_len": 64}  # short texts have several windows
# the options of the pipeline, the number of words of each passage, and the number of hard texts
PLAN: tuple[tuple[dict[str, Any], tuple[int, ...], int], ...] = (
    ({}, (*ONE, 60, 120, 260, 300, 350, 400, 500, 600, 1000, 2500), 6),
    ({"top_k": 3, "handle_impossible_answer": True}, (*ONE, 50, 100, 200, 280, 320, 420, 700), 5),
    ({"top_k": 20, "handle_impossible_answer": True, "doc_stride": 32}, (1, 4, 11, 30, 90, 330, 2000), 3),
    ({"align_to_words": False}, (*ONE, 50, 130, 300, 500), 5),
    ({"top_k": 20, "max_answer_len": 1}, (1, 7, 25, 70, 140, 350), 4),
    ({"top_k": 3, "max_answer_len": 50, "align_to_words": False, "doc_stride": 0}, (2, 6, 40, 90, 500), 4),
    (SMALL, (*ONE, 45, 60, 75, 90, 120, 150), 20),
    (SMALL | {"top_k": 3}, (*ONE, *SOME, 95, 130), 10),
    (SMALL | {"top_k": 20, "handle_impossible_answer": True}, (*SOME, 55, 80, 110, 160), 10),
    (SMALL | {"handle_impossible_answer": True, "doc_stride": 8}, (*SOME, 50, 100, 180, 240), 8),
    (SMALL | {"top_k": 3, "align_to_words": False, "max_answer_len": 50}, (*SOME, 65, 85, 140), 10),
    (SMALL | {"top_k": 20, "align_to_words": False, "max_answer_len": 1, "doc_stride": 0}, (3, 9, *SOME, 120, 220), 8),
    (SMALL | {"top_k": 1, "align_to_words": False, "handle_impossible_answer": True}, (*SOME, 50, 80, 125), 8),
    (SMALL | {"top_k": 3, "max_answer_len": 1, "doc_stride": 16}, (*SOME, 45, 90, 135), 8),
)

# a long question leaves windows of few equal tokens
ECHOES = [("war " * question, "war " * context) for question, context in ((60, 40), (57, 21), (40, 30))]
ECHO_OPTIONS: tuple[dict[str, Any], ...] = (
    SMALL | {"doc_stride": 0},
    SMALL | {"doc_stride": 0, "handle_impossible_answer": True, "top_k": 3},
)


def main() -> None:
    """Ask all questions and write the golden file."""
    if not transformers.__version__.startswith("4.57."):
        raise SystemExit(f"expected transformers 4.57, got {transformers.__version__}")
    model = build_model()
    tokenizer = DistilBertTokenizerFast(vocab_file=str(TOKENIZER / "vocab.txt"), model_max_length=512)
    window_logits: list[np.ndarray] = []

    def round_and_record(_module: Any, _inputs: Any, output: Any) -> Any:
        for name in ("start_logits", "end_logits"):
            output[name] = (output[name] / STEP).round() * STEP
        window_logits.append(np.stack([output["start_logits"][0].numpy(), output["end_logits"][0].numpy()]))
        return output

    model.register_forward_hook(round_and_record)
    pipeline = QuestionAnsweringPipeline(model=model, tokenizer=tokenizer, device="cpu")

    def answer(question: str, context: Any, options: dict[str, Any]) -> Row:
        window_logits.clear()
        row = Row(question, context, [], [], np.zeros(0))
        answers = pipeline(question=question, context=row.text, **options)
        return complete(row, answers, window_logits, tokens_of(question))

    def tokens_of(question: str) -> int:
        return len(tokenizer(question, add_special_tokens=False)["input_ids"])

    draw, questions = random.Random(457), cycle(QUESTIONS)
    groups = []
    for options, words, hard in PLAN:
        max_tokens = (
            options.get("max_seq_len", 384) // 2 - 4
        )  # a longer question leaves no space for the default overlap
        contexts = [passage(draw, count) for count in words] + draw.sample(HARD, hard)
        pairs = [(next(question for question in questions if tokens_of(question) <= max_tokens), c) for c in contexts]
        groups.append(Group(options, [answer(*pair, options) for pair in pairs]))
    groups += [Group(options, [answer(*pair, options) for pair in ECHOES]) for options in ECHO_OPTIONS]
    save(groups)
    rows = [row for group in groups for row in group.rows]
    print(len(rows), "rows,", sum(len(row.windows) > 1 for row in rows), "of several windows")


def passage(draw: random.Random, words: int) -> dict[str, Any]:
    """Return a range of so many words at a random place of the corpus. The whitespace between them is kept."""
    while True:
        shard = draw.randrange(len(SHARDS))
        row = draw.randrange(TEXTS_PER_SHARD[shard])
        text = corpus(SHARDS[shard])[row]
        start = text.find(" ", draw.randrange(len(text))) + 1
        end = start
        for _ in range(words):
            end = text.find(" ", end + 1)
            if end < 0:
                break
        if start and end > start and text[start:end].strip():
            return {"shard": SHARDS[shard], "row": row, "start": start, "end": end}


def complete(row: Row, answers: Any, window_logits: list[np.ndarray], question_tokens: int) -> Row:
    """Return the row with the answers of the pipeline and the logits of [CLS] and of the context.

    A window is [CLS] question [SEP] context [SEP].
    """
    answers = answers if isinstance(answers, list) else [answers]
    for answer in answers:
        if answer["answer"] != row.text[answer["start"] : answer["end"]]:
            raise AssertionError(answer)
    inside = [logits[:, question_tokens + 2 : -1] for logits in window_logits]
    return Row(
        row.question,
        row.context,
        [logits.shape[1] for logits in inside],
        [[answer["score"], answer["start"], answer["end"]] for answer in answers],
        np.concatenate([*inside, *(logits[:, :1] for logits in window_logits)], axis=1),
    )


if __name__ == "__main__":
    main()

"""The computed tokens are the corpus's tokens, and nothing padded leaves an operator."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from distilray.model.checkpoint import Checkpoint
from distilray.operators import schema as s
from distilray.operators.predict import Predict
from distilray.operators.ragged import flat
from distilray.operators.task import ComputeSpec, TaskSpec
from distilray.operators.tokenize import Tokenize
from tests.support import random_texts


@pytest.mark.parametrize("tokens_per_pack", [512, 4096])
def test_the_model_sees_each_token_and_no_other(checkpoint: Path, tokens_per_pack: int) -> None:
    task = TaskSpec("entities", Checkpoint(str(checkpoint)), "first", hf=False, overlap=None, threshold=0.0)
    texts = [*random_texts(60, 1), "", *random_texts(3, 2, words=(900, 1000))]
    tokens = Tokenize(task)(pa.table({s.TEXT: pa.array(texts)}))
    predict = Predict(task, ComputeSpec(tokens_per_pack=tokens_per_pack))
    seen = []

    def watch(_: torch.nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        assert output.ndim == 2  # [tokens, dim]: there is no axis to pad
        seen.append(inputs[0])

    predict.predictor.model.encoder.word_embeddings.register_forward_hook(watch)
    answers = predict(tokens)
    computed = torch.cat(seen).numpy()
    windows = flat(tokens[s.WINDOW_END]) - flat(tokens[s.WINDOW_START])
    assert len(computed) == windows.sum() + 2 * len(windows) == answers[s.COMPUTED_TOKENS][0].as_py()
    assert answers[s.COMPUTED_TOKENS][0].as_py() == sum(answers[s.WINDOW_TOKENS].to_pylist())
    content = computed[~np.isin(computed, (predict.tokenizer.cls_id, predict.tokenizer.sep_id))]
    assert set(content) == set(flat(tokens[s.INPUT_IDS]))
    assert all(len(pack) <= max(tokens_per_pack, 512) for pack in seen)


def test_what_leaves_the_tokenizer_is_ragged(checkpoint: Path) -> None:
    task = TaskSpec("entities", Checkpoint(str(checkpoint)), "first", hf=False, overlap=None, threshold=0.0)
    texts = ["lincoln", "", " ".join(["paris"] * 2000)]
    table = Tokenize(task)(pa.table({s.TEXT: pa.array(texts)}))
    for name in (s.INPUT_IDS, s.WORD_IDS, s.START, s.END):
        assert table.schema.field(name).type == pa.list_(pa.int32())
        assert pa.compute.list_value_length(table[name]).to_pylist() == [1, 0, 2000]
    assert table.nbytes < 2001 * 4 * 4 + len("".join(texts)) + 500

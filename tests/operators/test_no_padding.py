"""The model computes the tokens of the corpus and no padding, and no operator returns padded arrays."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from distilray.model.checkpoint.checkpoint import Checkpoint
from distilray.model.inference.windows import split_into_windows
from distilray.model.tokenizer.tokenizer import Tokenizer
from distilray.operators.predict import PredictUnit
from distilray.operators.rows import schema as s
from distilray.operators.tasks import TokenClassification
from distilray.operators.tokenize import TokenizeUnit
from distilray.operators.worker_config import ComputeSpec
from tests.operators.harness import rows
from tests.support import random_texts


@pytest.mark.parametrize("tokens_per_pack", [512, 4096])
def test_the_model_computes_each_token_without_padding(checkpoint: Path, tokens_per_pack: int) -> None:
    tasks = [TokenClassification(model=str(checkpoint))]
    texts = [*random_texts(60, 1), "", *random_texts(3, 2, words=(900, 1000))]
    predict = PredictUnit(tasks, ComputeSpec(tokens_per_pack=tokens_per_pack))
    packs = []

    def record_pack(_: torch.nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        assert output.ndim == 2  # [tokens, dim], without an axis for padding
        packs.append(inputs[0])

    predict.predictors[0].encoder.word_embeddings.register_forward_hook(record_pack)
    answers = predict(TokenizeUnit(tasks)(rows(texts)))
    computed = torch.cat(packs).numpy()
    tokenizer = Tokenizer(Checkpoint(str(checkpoint)))
    tokens = tokenizer(texts)
    windows = split_into_windows(tokens.offsets, tokens.word_ids, 510, 64).lengths
    assert len(computed) == windows.sum() + 2 * len(windows) == answers[s.COMPUTED_TOKENS][0].as_py()
    assert answers[s.COMPUTED_TOKENS][0].as_py() == answers[s.WINDOW_TOKENS][0].as_py()
    content = computed[~np.isin(computed, tokenizer.specials)]
    assert set(content) == set(tokens.input_ids)
    assert all(len(pack) <= max(tokens_per_pack, 512) for pack in packs)


def test_the_tokenizer_returns_ragged_lists(checkpoint: Path) -> None:
    texts = ["lincoln", "", " ".join(["paris"] * 2000)]
    table = TokenizeUnit([TokenClassification(model=str(checkpoint))])(rows(texts))
    tokens = table[s.tokens_column(0, s.TEXT)]
    assert tokens.type == pa.list_(s.TOKEN)
    assert pa.compute.list_value_length(tokens).to_pylist() == [1, 0, 2000]
    assert table.nbytes < 2001 * 4 * 4 + len("".join(texts)) + 500

"""compat hf equals the Transformers pipeline on real documents, with a trained model and with adversarial weights."""

from pathlib import Path

import pyarrow.dataset as ds
import pytest

from tests.operators.test_hf_parity import STRATEGIES, assert_same, entities, hf_entities
from tests.support import make_checkpoint

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DOCUMENTS = 320


@pytest.fixture(scope="module")
def documents() -> list[str]:
    """Passages of the example's corpus, of 1 to some 900 words, some longer than the model."""
    texts = ds.dataset(EXAMPLES / "corpus", partitioning="hive").to_table(columns=["text"])["text"].to_pylist()
    words = [text.split(" ") for text in texts]
    passages = []
    for i in range(DOCUMENTS):
        size = 900 if i % 40 == 0 else 1 + (i * 7) % 70
        source = words[i % len(words)]
        first = (i * 131) % max(len(source) - size, 1)
        passages.append(" ".join(source[first : first + size]))
    assert len({*passages}) > 300
    return passages


@pytest.fixture(scope="module")
def adversarial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights over the trained model's vocabulary, so that real words are no [UNK]."""
    vocab = (EXAMPLES / "models/ner/vocab.txt").read_text(encoding="utf-8").splitlines()
    return make_checkpoint(tmp_path_factory.mktemp("adversarial"), vocab=vocab)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("trained", [True, False], ids=["trained", "adversarial"])
def test_equals_the_pipeline_on_real_documents(
    documents: list[str], adversarial: Path, strategy: str, trained: bool
) -> None:
    model = EXAMPLES / "models/ner" if trained else adversarial
    theirs = hf_entities(model, documents, strategy)
    assert sum(map(len, theirs)) > 200
    assert_same(entities(model, documents, aggregation=strategy), theirs, documents)


@pytest.mark.parametrize("strategy", STRATEGIES[1:])
def test_equals_the_pipeline_with_windows_on_whole_documents(
    documents: list[str], adversarial: Path, strategy: str
) -> None:
    long = documents[::40]
    ours = entities(adversarial, long, aggregation=strategy, overlap=100)
    assert_same(ours, hf_entities(adversarial, long, strategy, stride=100), long)

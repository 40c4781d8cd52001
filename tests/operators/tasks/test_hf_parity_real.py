"""compat hf equals the Transformers pipeline on real documents, with a trained model and with random weights."""

from pathlib import Path

import pytest

from tests.operators.reference import EXAMPLES, corpus_vocabulary, passage
from tests.operators.tasks.test_hf_parity import STRATEGIES, assert_same, entities, hf_entities
from tests.support import make_checkpoint

DOCUMENTS = 320


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def documents() -> list[str]:
    """Passages of 1 to 900 words of the corpus of the examples. Some are longer than the model."""
    passages = [passage(i, 900 if i % 40 == 0 else 1 + (i * 7) % 70) for i in range(DOCUMENTS)]
    assert len({*passages}) > 300
    return passages


@pytest.fixture(scope="module")
def adversarial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with random weights and the vocabulary of the trained model, so that real words do not become [UNK]."""
    return make_checkpoint(tmp_path_factory.mktemp("adversarial"), vocab=list(corpus_vocabulary()))


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("trained", [True, False], ids=["trained", "adversarial"])
def test_equals_the_pipeline_on_real_documents(
    documents: list[str], adversarial: Path, strategy: str, trained: bool
) -> None:
    model = EXAMPLES / "models/ner" if trained else adversarial
    expected = hf_entities(model, documents, strategy)
    assert sum(map(len, expected)) > 200
    assert_same(entities(model, documents, aggregation=strategy), expected, documents)


@pytest.mark.parametrize("strategy", STRATEGIES[1:])
def test_equals_the_pipeline_with_windows_on_whole_documents(
    documents: list[str], adversarial: Path, strategy: str
) -> None:
    long = documents[::40]
    actual = entities(adversarial, long, aggregation=strategy, overlap=100)
    assert_same(actual, hf_entities(adversarial, long, strategy, stride=100), long)

"""The tokenization benchmark runs, and its corpora are natural text of the requested size."""

import importlib.util
import json
import subprocess
import sys
import unicodedata
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def corpora() -> ModuleType:
    spec = importlib.util.spec_from_file_location("corpora", BENCHMARKS / "corpora.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["english", "multilingual"])
def test_a_corpus_has_the_requested_size_and_is_reproducible(corpora: ModuleType, name: str) -> None:
    texts = getattr(corpora, name)(300_000)
    assert texts.equals(getattr(corpora, name)(300_000))
    assert 300_000 <= sum(len(text.encode()) for text in texts.to_pylist()) < 330_000
    assert len(set(texts.to_pylist())) == len(texts)


def test_the_multilingual_corpus_has_many_scripts(corpora: ModuleType) -> None:
    letters = {c for text in corpora.multilingual(2_600_000).to_pylist() for c in text if c.isalpha()}
    scripts = {unicodedata.name(c).split()[0] for c in letters}
    assert scripts >= {
        "LATIN",
        "CJK",
        "HIRAGANA",
        "HANGUL",
        "CYRILLIC",
        "ARABIC",
        "THAI",
        "HEBREW",
        "DEVANAGARI",
        "GREEK",
    }


def test_the_benchmark_runs() -> None:
    command = [sys.executable, str(BENCHMARKS / "tokenization.py"), "--size", "20000", "--repeats", "1"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result = json.loads(done.stdout.splitlines()[-1])
    assert set(result["tokens_per_second"]) == {"english", "multilingual"}
    assert {"encode_batch", "encode_batch, arrays"} < result["tokens_per_second"]["english"].keys()
    assert all(rate > 0 for rates in result["tokens_per_second"].values() for rate in rates.values())

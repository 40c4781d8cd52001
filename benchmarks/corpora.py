"""Real text for the benchmarks, in documents of log-normal lengths.

english: sentences of the example's corpus. multilingual: the messages of Django's translations, in some ninety languages and
all their scripts, each document in one language (BSD licence; the `bench` extra installs them).
Equal sizes give equal texts. Up to the size of the source (2.2 and 2.6 MB) no sentence comes twice; beyond, sentences come again in
another order.
"""

import gettext
import importlib.util
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

MEAN_CHARS = 850  # of a document
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def english(size: int) -> pa.StringArray:
    """About `size` bytes of English prose."""
    folder = Path(__file__).resolve().parent.parent / "examples/corpus"
    addresses = ds.dataset(folder).to_table(columns=["id", "text"]).sort_by("id")["text"].to_pylist()
    return _documents([_SENTENCE_END.split(address) for address in addresses], size)


def multilingual(size: int) -> pa.StringArray:
    """About `size` bytes in many languages. Raises ModuleNotFoundError without Django."""
    spec = importlib.util.find_spec("django")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("the multilingual corpus is Django's translations: pip install 'distilray[bench]'")
    messages: dict[str, list[str]] = {}
    for file in sorted(Path(spec.origin).parent.rglob("locale/*/LC_MESSAGES/*.mo")):
        language = file.parts[-3]
        if not language.startswith("en"):
            messages.setdefault(language, []).extend(_messages(file))
    return _documents(list(messages.values()), size)


def _messages(file: Path) -> list[str]:
    with file.open("rb") as stream:
        catalog = vars(gettext.GNUTranslations(stream))["_catalog"]
    return [text for key, text in catalog.items() if key]


def _documents(sources: Sequence[Sequence[str]], size: int) -> pa.StringArray:
    draw, texts, total = np.random.default_rng(0), [], 0
    while total < size:
        documents = [document for source in sources for document in _cut(source, draw)]
        for i in draw.permutation(len(documents)):
            if total >= size:
                break
            texts.append(documents[i])
            total += len(documents[i].encode())
        sources = [[source[i] for i in draw.permutation(len(source))] for source in sources]
    return pa.array(texts, pa.string())


def _cut(sentences: Sequence[str], draw: np.random.Generator) -> Iterator[str]:
    """Consecutive sentences, joined to documents."""
    part: list[str] = []
    left = 0.0
    for sentence in sentences:
        if left <= 0:
            if part:
                yield " ".join(part)
            part = []
            left = draw.lognormal(np.log(MEAN_CHARS) - 0.5, 1.0)
        part.append(sentence)
        left -= len(sentence)
    yield " ".join(part)

"""Real text for the benchmarks, in documents of log-normal lengths.

english: sentences of the example's corpus.
multilingual: the messages of Django's translations, in some ninety languages and all their scripts. Each document has
one language (BSD licence; the `bench` extra installs them).

Equal sizes give equal texts. Up to the size of the source (2.2 and 2.6 MB) no sentence repeats. Beyond it, sentences
repeat in another order.
"""

import gettext
import importlib.util
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

MEAN_CHARS = 850  # mean length of a document
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def english(size: int) -> pa.StringArray:
    """Make about `size` bytes of English prose."""
    folder = Path(__file__).resolve().parent.parent / "examples/corpus"
    addresses = ds.dataset(folder).to_table(columns=["id", "text"]).sort_by("id")["text"].to_pylist()
    return _documents([_SENTENCE_END.split(address) for address in addresses], size)


def multilingual(size: int) -> pa.StringArray:
    """Make about `size` bytes of text in many languages. Raises ModuleNotFoundError if Django is missing."""
    spec = importlib.util.find_spec("django")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            "expected Django, whose translations are the multilingual corpus: pip install 'distilray[bench]'"
        )
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
    rng, texts, total = np.random.default_rng(0), [], 0
    while total < size:
        documents = [document for source in sources for document in _cut(source, rng)]
        for i in rng.permutation(len(documents)):
            if total >= size:
                break
            texts.append(documents[i])
            total += len(documents[i].encode())
        sources = [[source[i] for i in rng.permutation(len(source))] for source in sources]
    return pa.array(texts, pa.string())


def _cut(sentences: Sequence[str], rng: np.random.Generator) -> Iterator[str]:
    """Join consecutive sentences to documents."""
    part: list[str] = []
    left = 0.0
    for sentence in sentences:
        if left <= 0:
            if part:
                yield " ".join(part)
            part = []
            left = rng.lognormal(np.log(MEAN_CHARS) - 0.5, 1.0)
        part.append(sentence)
        left -= len(sentence)
    yield " ".join(part)

"""Put on PYTHONPATH, makes every process of a run fail at rows whose text says so, while it predicts or tokenizes."""

import ctypes
import importlib.util
import sys
import time
from importlib.abc import MetaPathFinder

STAGES = {
    "distilray.operators.predict": ("PredictUnit", "answers"),
    "distilray.operators.tokenize": ("TokenizeUnit", "tokenized"),
    "distilray.operators.rows.columns": (None, "texts"),
}


def poisoned(text, stage):
    if f"{stage} raises" in text:
        raise ValueError("a row that raises")
    if f"{stage} segfaults" in text:
        ctypes.string_at(0)
    if f"{stage} exhausts memory" in text:
        held = []
        while True:
            held.append(b"x" * 2**26)
    if f"{stage} fails the device" in text:
        raise sys.modules["torch"].AcceleratorError("device-side assert triggered")
    if f"{stage} hangs" in text:
        time.sleep(10**6)


def poison_reading(module):
    healthy = module.texts

    def texts(column, name):
        if any("read segfaults" in str(text) for text in column.to_pylist()):
            ctypes.string_at(0)
        return healthy(column, name)

    module.texts = texts


def poison(kind, method, stage):
    healthy = getattr(kind, method)

    def call(self, table, *more):
        for text in table["_text"].to_pylist():
            if text and "poison" in text:
                poisoned(text, stage)
        return healthy(self, table, *more)

    setattr(kind, method, call)


class Finder(MetaPathFinder):
    def find_spec(self, name, *_):
        if name not in STAGES:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        sys.meta_path.insert(0, self)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            kind, method = STAGES[name]
            if kind:
                poison(getattr(module, kind), method, name.rpartition(".")[2])
            else:
                poison_reading(module)

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Finder())

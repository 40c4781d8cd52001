"""A fault injection: with this folder on PYTHONPATH, every process of a run fails at rows whose text names a fault.

The text names the stage and the fault, for example "poison: predict raises". Stages: read, tokenize, predict.
"""

import ctypes
import importlib.util
import sys
import time
from importlib.abc import MetaPathFinder

STAGES = {
    "distilray.operators.predict": ("PredictUnit", "answers"),
    "distilray.operators.tokenize": ("TokenizeUnit", "tokenized"),
    "distilray.operators.rows.columns": (None, "valid_texts"),
}


def fail(text, stage):
    """Fail as the text of a row demands, if it names the stage."""
    if f"{stage} raises" in text:
        raise ValueError("a row that raises")
    if f"{stage} segfaults" in text:
        ctypes.string_at(0)
    if f"{stage} exhausts memory" in text:
        blocks = []
        while True:
            blocks.append(b"x" * 2**26)
    if f"{stage} fails the device" in text:
        raise sys.modules["torch"].AcceleratorError("device-side assert triggered")
    if f"{stage} hangs" in text:
        time.sleep(10**6)


def patch_reading(module):
    """Make the reading of texts crash at a text that demands it."""
    original = module.valid_texts

    def valid_texts(column, subject):
        if any("read segfaults" in str(text) for text in column.to_pylist()):
            ctypes.string_at(0)
        return original(column, subject)

    module.valid_texts = valid_texts


def patch_method(kind, method, stage):
    """Make a method fail at rows that demand it. kind: the class of the method."""
    original = getattr(kind, method)

    def call(self, table, *more):
        for text in table["_text"].to_pylist():
            if text and "poison" in text:
                fail(text, stage)
        return original(self, table, *more)

    setattr(kind, method, call)


class PatchingFinder(MetaPathFinder):
    """An import hook that patches the modules of STAGES after their import."""

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
                patch_method(getattr(module, kind), method, name.rpartition(".")[2])
            else:
                patch_reading(module)

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, PatchingFinder())

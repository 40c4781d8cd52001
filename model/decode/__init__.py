"""Decoding of logits into answers, one module per task, with numpy over ragged arrays.

Tasks import from every module here except `answer_spans` and `tags`, which are internal.
"""

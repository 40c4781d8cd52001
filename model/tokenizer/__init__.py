"""Tokenization: texts to ragged arrays of token ids, words and character offsets.

Other folders import from `tokenizer`, `tokens` and `spec`; `pretokenize` and `word_cache` are internal.
"""

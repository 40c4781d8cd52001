"""DistilBERT in plain torch: the network, its tokenizer, its checkpoints, and the decoding of its logits.

This package takes arrays and returns arrays. It does not import Ray, jobs or Parquet.
"""

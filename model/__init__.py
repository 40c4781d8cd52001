"""DistilBERT in plain torch, its tokenizer, its checkpoints and the decoding of its logits.

Knows neither Ray nor Parquet nor the job: arrays in, arrays out.
"""

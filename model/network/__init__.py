"""The DistilBERT network: encoder, heads, attention, and their configuration."""

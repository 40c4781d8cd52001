"""The shards of a corpus."""

"""The objects of a unit in a sink: their bytes, their footers, and the statistics in them.

`object_store` writes objects, `unit_object` encodes and reads them, `watched_file` reads shards, `stats` adds statistics.
Import any name without an underscore from these modules.
"""

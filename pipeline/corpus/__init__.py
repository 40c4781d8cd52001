"""The shards of a corpus: their listing, their footers and schemas, and the readers of formats other than Parquet.

Import any public name from the modules of this folder. Of the pipeline, they import only job and errors.
"""

"""The shards of a corpus: their listing, their footers and schemas, and the readers of other file formats.

Import any public name from the modules of this folder. They import job and errors of the pipeline only.
"""

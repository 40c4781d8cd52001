"""The output folder and its protocol: plan, data objects, dead letters, records of runs, manifest and _SUCCESS.

Import any public name from the modules of this folder. They import corpus, planning and job of the pipeline only.
"""

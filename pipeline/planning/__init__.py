"""The plan of a run: its units, its token budget, where it computes, and a forecast of its cost.

Import any public name from the modules of this folder. They import corpus, engines and job, and no module of sink.
"""

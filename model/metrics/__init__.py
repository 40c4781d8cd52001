"""Losses and metrics of a labelled corpus, one module per kind of head.

Each module of a kind of head has the functions `count` and `figures`, see `counts`. Other folders import from these modules, `counts` and
`labelled`.
"""

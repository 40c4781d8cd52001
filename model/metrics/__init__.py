"""Losses and metrics of a labelled corpus, one module per kind of head.

Each such module has `count` and `figures`, see `counts`. Other folders import from these modules, `counts` and
`labelled`.
"""

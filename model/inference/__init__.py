"""Inference: sequences and windows of tokens, the predictor that computes them in packs, and its calibration.

Tasks describe their work with `HeadRequest` and `OutputPositions` from `requests`, and with `windows` and `sequences`.
Other folders also import from `predictor`, `calibrate` and `device`; `transfer` is internal.
"""

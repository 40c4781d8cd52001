"""Checkpoints: their files, their weights in every format, their architectures, and their conversion to safetensors.

Other folders import from `checkpoint`, `weights`, `architectures`, `convert` and `formats.load`.
"""

"""Readers of the formats in which weights are saved: safetensors, torch pickle, TensorFlow HDF5 and Flax msgpack.

Other folders import `load_tensors` from `load`, which chooses the reader, and `is_encoder` from `names`.
"""

"""The DistilBERT network: config, packs, encoder, attention kernels, activations, heads, and their names.

Other folders may import from every module. `config`, `names` and `pack` define the inputs of the others.
"""

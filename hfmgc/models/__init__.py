"""Architectures: `configuration_<name>.py`, `modeling_<name>.py`, and the modules that they share.

`save_pretrained` copies these files into every checkpoint. They therefore import only torch, transformers,
huggingface_hub and each other (`from .sibling import x`).
"""

"""Architectures: `configuration_<name>.py`, `modeling_<name>.py`, and the modules they share.

These files are copied into every checkpoint, so they import torch, transformers, huggingface_hub and each other
(`from .sibling import x`), never the rest of hfmgc.
"""

"""Architectures, lying flat: `configuration_<name>.py`, `modeling_<name>.py`, and beside them what all of them share.

These files are copied into every checkpoint, so they import torch, transformers and each other (`from .sibling import x`)
and never the rest of hfmgc.
"""

"""Feature extractors: from a decoded waveform to a model's input.

These files are copied into every checkpoint, so they import numpy, scipy, librosa, torch, transformers, huggingface_hub
and each other (`from .sibling import x`), never the rest of hfmgc.
"""

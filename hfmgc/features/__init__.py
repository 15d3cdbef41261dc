"""Feature extractors: they turn decoded waveforms into model inputs.

These files are copied into every checkpoint. They import only numpy, scipy, librosa, torch, transformers,
huggingface_hub and each other (`from .sibling import x`), never the rest of hfmgc.
"""

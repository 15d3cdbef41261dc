"""Feature extractors, lying flat: from a decoded waveform to what a model takes.

These files are copied into every checkpoint, so they import numpy, librosa, torch, transformers and each other
(`from .sibling import x`) and never the rest of hfmgc.
"""

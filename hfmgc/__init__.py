"""hfmgc: music genre classification in the Hugging Face ecosystem.

`import hfmgc` makes transformers' Auto classes and `pipeline("audio-classification")` know the architectures of the
toolkit, and costs no more than that: torch and the rest are imported when they are used.
"""

from .registry import register_architectures


__version__ = "0.1.0.dev0"

register_architectures()

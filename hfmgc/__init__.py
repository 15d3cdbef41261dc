"""hfmgc: music genre classification in the Hugging Face ecosystem.

`import hfmgc` registers the toolkit's architectures with transformers' Auto classes and pipelines. It is cheap: the
public names below, and libraries such as torch, are imported on first use.
"""

from typing import Any

from .registry import load_class, register_architectures


__version__ = "0.1.0.dev0"

_PUBLIC = {
    "AudioEncoderFeatureExtractor": "hfmgc.features.feature_extraction_audio_encoder",
    "HfmgcASTFeatureExtractor": "hfmgc.features.feature_extraction_ast",
    "HandmadeFeatureExtractor": "hfmgc.features.feature_extraction_handmade",
    "SpectrogramFeatureExtractor": "hfmgc.features.feature_extraction_spectrogram",
    "SplitManifest": "hfmgc.data.split_manifest",
    "TrackClassifier": "hfmgc.inference.predict",
    "TrackCollator": "hfmgc.data.collation",
    "augment": "hfmgc.data.augmentation.report",
    "default_checkpoint": "hfmgc.checkpoints",
    "genre_metrics": "hfmgc.evaluation.metrics",
    "load_audio": "hfmgc.data.audio",
    "load_dataset": "hfmgc.api",
}
__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'hfmgc' has no attribute {name!r}")
    return load_class(f"{_PUBLIC[name]}:{name}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


register_architectures()

"""What each cached computation gives for fixed inputs, and the golden values that it once gave.

    python tests/golden_values.py

writes the golden values again, where the version in `COMPUTATIONS` went up with them.
"""

import io
import json
import sys
from pathlib import Path

import numpy as np
import soundfile

from hfmgc.data import check
from hfmgc.data.augmentation.report import ORIGINAL, VARIANTS, augment
from hfmgc.data.caching import COMPUTATIONS
from hfmgc.data.corpus import decode_track
from hfmgc.data.fingerprints import fingerprint, stored_fingerprint
from hfmgc.data.sources import feature_rows, fma, gtzan, hub_dataset
from hfmgc.features.feature_extraction_ast import HfmgcASTFeatureExtractor
from hfmgc.features.feature_extraction_spectrogram import SpectrogramFeatureExtractor
from hfmgc.features.handmade_features import extract_handmade_features, extract_summary_features
from hfmgc.features.spectrogram_presets import PRESETS


GOLDEN = Path(__file__).with_suffix(".json")
RATE = 22050
VALUES = 120  # of each result, evenly spaced


def sweep(seconds: float = 3.0, rate: int = RATE) -> np.ndarray:
    """A sweep with an overtone that swells: the same samples in every version of every library."""
    time = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * (110 * time + 300 * time**2)
    return (np.geomspace(0.05, 0.7, len(time)) * (np.sin(phase) + 0.3 * np.sin(3 * phase)) / 1.3).astype(np.float32)


def _decoding() -> dict[str, np.ndarray]:
    results = {}
    for kind, subtype in (("WAV", "PCM_16"), ("FLAC", "PCM_24"), ("OGG", "VORBIS")):
        content = io.BytesIO()
        soundfile.write(content, np.stack([sweep(), 0.5 * sweep()], axis=1), RATE, format=kind, subtype=subtype)
        track = {"track_id": kind, "audio": {"bytes": content.getvalue(), "path": None}}
        results[kind] = decode_track(track, 16000)["waveform"]
    return results


def _checks() -> dict[str, str]:
    """What is found of a sound, a silent, a constant, a clipped and a truncated file, and of rows of features."""
    sound = sweep()
    waveforms = {
        "sound": sound,
        "silent": 0 * sound,
        "constant": 0 * sound + np.float32(0.3),
        "clipped": np.clip(5 * sound, -1, 1),
    }
    results = {}
    for name, waveform in waveforms.items():
        content = io.BytesIO()
        soundfile.write(content, waveform, RATE, format="WAV", subtype="PCM_16")
        for length in (len(content.getvalue()), len(content.getvalue()) // 2):
            track = {"track_id": name, "genre": "pop", "audio": {"bytes": content.getvalue()[:length], "path": None}}
            row = check._check_track(track) | {"clipped": round(check._check_track(track)["clipped"], 3)}
            row |= {"digest": bool(row["digest"]), "fingerprint": len(row["fingerprint"])}
            results[f"{name}, {length} bytes"] = json.dumps(row, sort_keys=True)
    rows = {
        "ragged": np.array([[1.0], [1.0, 2.0]], dtype=object),
        "empty": [],
        "levels": np.full((4, 5), 300),
        "NaN": np.full((4, 5), np.nan),
    }
    return results | {name: json.dumps(feature_rows._check_row({"features": row})) for name, row in rows.items()}


def _features() -> dict[str, np.ndarray]:
    fields = {"window_seconds": 2.0}
    extractors = {name: SpectrogramFeatureExtractor(preset=name, **fields, crop=None) for name in PRESETS}
    track = {"normalize_over": "track", "normalization": "z_score", "pad_mode": "reflect"}
    extractors["track"] = SpectrogramFeatureExtractor(**fields, **track, window_policy="random", max_windows=3)
    extractors["mfcc"] = SpectrogramFeatureExtractor(representation="mfcc", **fields)
    results = {"518": extract_handmade_features(sweep(), RATE), "57": extract_summary_features(sweep(), RATE)}
    extractors["ast"] = HfmgcASTFeatureExtractor(max_length=128)
    for name, extractor in extractors.items():
        waveform = sweep(rate=extractor.sampling_rate)
        results[name] = extractor.track_features(waveform)
        results[f"{name}, windows"] = extractor.track_windows(waveform)
    return results


def _tables() -> dict[str, str]:
    audio = {"path": "000123.mp3", "bytes": None}
    columns = {
        "audio_column": "audio",
        "label_column": "label",
        "artist_column": "by",
        "id_column": "",
        "split_column": "",
    }
    rows = {
        "gtzan": gtzan._mirror_track(
            {"audio": {"path": "pop.00003.wav", "bytes": b"x"}}, 0, "x", "train", {}, has_sides=False
        ),
        "fma": fma._mirror_track(
            {"audio": audio, "genres": [1], "artist": "A"}, 7, "x", "full", {"genres": ["Pop", "Rock"]}
        ),
        "hub": hub_dataset._track(
            {"audio": audio, "label": 1, "by": "A"}, 7, "x", "test", {"label": ["a", "b"]}, columns
        ),
    }
    return {name: json.dumps(row, default=str, sort_keys=True) for name, row in rows.items()}


def _frozen_prefix() -> dict[str, np.ndarray]:
    import torch
    from test_frozen_prefix import adapted, windows

    from hfmgc.training.frozen_prefix import FrozenPrefix

    with torch.no_grad():
        return {
            f"from layer {layer}": FrozenPrefix(adapted(layer).eval()).states(windows(2)).numpy() for layer in (1, 2)
        }


RESULTS = {
    "tables": _tables,
    "decoding": _decoding,
    "features": _features,
    "checks": _checks,
    "fingerprints": lambda: {
        "of sound": np.unpackbits(fingerprint(sweep(), RATE).view(np.uint8)),
        "of features": np.unpackbits(
            stored_fingerprint(SpectrogramFeatureExtractor().track_features(sweep())).view(np.uint8)
        ),
    },
    "augmentation": lambda: {
        variant: augment(sweep(1.0), RATE, variant, np.random.default_rng(0)) for variant in (ORIGINAL, *VARIANTS)
    },
    "frozen prefix": _frozen_prefix,
}


def sample(result: np.ndarray | str) -> dict:
    """Return what is kept of a result: its shape and values from all over it, or its text."""
    if isinstance(result, str):
        return {"text": result}
    values = np.asarray(result, dtype=np.float64)
    places = np.linspace(0, values.size - 1, min(VALUES, values.size)).round().astype(int)
    return {"shape": list(values.shape), "values": [float(f"{value:.5g}") for value in values.reshape(-1)[places]]}


def differs(result: np.ndarray | str, golden: dict) -> bool:
    """Return whether a result is another one than the golden one, beyond what platforms and library patches change."""
    now = sample(result)
    if "text" in golden or "text" in now or now["shape"] != golden["shape"]:
        return now != golden
    scale = max(1e-6, float(np.abs(golden["values"]).max()))
    return not np.allclose(now["values"], golden["values"], rtol=1e-3, atol=1e-4 * scale)


def main() -> None:
    """Write the golden values of computations whose version went up, or that are new."""
    before = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    after = {}
    for name, results_of in RESULTS.items():
        results, version = results_of(), COMPUTATIONS[name].version
        old = before.get(name)
        if old and old["version"] == version:
            changed = [key for key in results if key in old["results"] and differs(results[key], old["results"][key])]
            if changed:
                sys.exit(f"{name}: {', '.join(changed)} changed: raise its version in hfmgc/data/caching.py first")
        after[name] = {"version": version, "results": {key: sample(result) for key, result in results.items()}}
    lines = [f"  {json.dumps(key)}: {json.dumps(result)}" for key, result in after.items()]
    GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()

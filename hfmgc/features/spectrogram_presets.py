"""The papers' front ends as named sets of fields of [`SpectrogramFeatureExtractor`].

Each preset names its source; values that the paper omits are marked "ours". Other fields keep the extractor's defaults: 30 s
at 22,050 Hz, 128 mels (n_fft 2048, hop 512), dB relative to the maximum with a floor at -80.
"""

import difflib
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple


class Preset(NamedTuple):
    """The source of a front end, and the fields of its extractor."""

    source: str
    fields: dict[str, Any]


# LGNet's frames of 30 ms every 15 ms, in samples at 22,050 Hz; n_fft is the smallest power of two that fits.
_LGNET_FRAMES = {"n_fft": 1024, "win_length": 662, "hop_length": 331, "normalization": "min_max"}
_DIVIDE_AND_CONQUER_SOURCE = (
    "Divide and Conquer, front end of the authors' code: power_to_db(ref=max) of each snippet, (x + 80) / 80 (the paper's "
    "Eq. 1 is a min-max). Ours: only tracks shorter than a window are looped; the authors loop tracks of 27 to 30 s to "
    "30 s before they cut them"
)

PRESETS: dict[str, Preset] = {
    "deformer": Preset(
        "Deformer, preprocessing: mel resized to 224x224, then min-max; the mel parameters and 30 s are ours",
        {"resize": [224, 224], "normalization": "min_max"},
    ),
    "ts_resformer": Preset(
        "TS-Resformer, section 3.1: z-scored audio, 12 s with 50 % overlap, Hann 4096/1024, dB, 128x512. Ours: the "
        "z-score subtracts the signed mean (the paper describes a mean of absolute amplitudes, which leaves an offset), dB "
        "are relative to 1.0 (relative to the maximum, the z-score would have no effect), and of 517 frames the first "
        "512 are kept",
        {
            "sampling_rate": 44100,
            "n_fft": 4096,
            "hop_length": 1024,
            "waveform_normalization": "z_score",
            "db_reference": 1.0,
            "window_seconds": 12.0,
            "window_policy": "all",
            "window_overlap": 0.5,
            "short_tracks": "pad",
            "crop": [128, 512],
        },
    ),
    **{
        f"divide_and_conquer_{seconds}s": Preset(
            f"{_DIVIDE_AND_CONQUER_SOURCE}; {frames} frames",
            {"normalization": "affine", "affine_offset": 80.0, "affine_scale": 80.0, "window_seconds": float(seconds)},
        )
        for seconds, frames in ((30, 1292), (10, 431), (3, 130))
    },
    "lgnet_mel": Preset(
        "LGNet, section 4.1: frames of 30 ms every 15 ms, 128 mels; rate, dB, min-max and 30 s are ours",
        _LGNET_FRAMES,
    ),
    "lgnet_stft": Preset(
        "LGNet, section 3.1: magnitudes of 30 ms every 15 ms; rate, dB, min-max and 30 s are ours",
        {**_LGNET_FRAMES, "representation": "stft", "power": 1.0},
    ),
    "lgnet_cqt": Preset(
        "LGNet, section 3.1: magnitudes, 36 bins per octave, every 15 ms; 8 octaves from C1, rate, dB, min-max and 30 s "
        "are ours",
        # librosa halves the rate for lower octaves as long as the hop is even, so 332 samples (15.06 ms) instead of 331
        # take a fifth of the time.
        {
            **_LGNET_FRAMES,
            "hop_length": 332,
            "representation": "cqt",
            "power": 1.0,
            "bins_per_octave": 36,
            "num_bins": 288,
        },
    ),
    "m2d": Preset(
        "M2D, front end of the authors' code: ln(mel + eps of float32), reflected ends, 80x608, mean -7.1, std 4.2. Ours: "
        "short tracks are looped; the authors pad them with zeros before the normalisation",
        {
            "sampling_rate": 16000,
            "n_fft": 400,
            "hop_length": 160,
            "num_bins": 80,
            "fmin": 50.0,
            "fmax": 8000.0,
            "pad_mode": "reflect",
            "scale": "log",
            "log_offset": 2.0**-23,
            "normalization": "statistics",
            "mean": -7.1,
            "std": 4.2,
            "window_frames": 608,
        },
    ),
    # Measured: each stored column is one frame, floor((column + 0.5) * frames / 387.5), as if it were every second pixel of
    # an image of width 775. Clips of 30.01 s have 1293 frames, so the rate is 12.9 frames per second.
    "gtzan_decimated": Preset(
        "GTZAN's stored log-mel (387 frames for 30 s), recovered by comparison with the audio: single frames, not averages; "
        "dB relative to the track's maximum with a floor at -80, min-max over the track. Here maximum and range are taken "
        "over the kept frames, in the stored files over all frames, a difference of 0.3 % of the range on average (56 clips)",
        {
            "normalization": "min_max",
            "normalize_over": "track",
            "frames_per_second": 22050 / 512 * 387.5 / 1293,
        },
    ),
    # log10(1 + 10000 x) = (ln(x + 1e-4) + 4 ln 10) / ln 10; the stored features are ln(x + 1e-4).
    "musicnn": Preset(
        "MusiCNN, front end of the authors' package: log10(1 + 10000 x) of 96 Slaney mels of power, adjacent windows of 187 "
        "frames. The package rounds the mels to float16 first, so that a mel power above 6.55 becomes infinite; this is "
        "left out here",
        {
            "sampling_rate": 16000,
            "n_fft": 512,
            "hop_length": 256,
            "num_bins": 96,
            "scale": "log",
            "log_offset": 1e-4,
            "normalization": "affine",
            "affine_offset": 4 * math.log(10),
            "affine_scale": math.log(10),
            "window_frames": 187,
            "window_policy": "all",
            "window_overlap": 0.0,
        },
    ),
}


def with_preset(init: Callable) -> Callable:
    """Decorate a constructor to take its defaults from the argument `preset`.

    Raises:
        ValueError: If the preset is unknown; the message suggests the nearest name.
    """

    @functools.wraps(init)  # keeps the signature, from which the field names are read
    def init_with_preset(self: Any, preset: str | None = None, **fields: Any) -> None:
        defaults = {}
        if preset is not None:
            if preset not in PRESETS:
                near = difflib.get_close_matches(str(preset), PRESETS, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(PRESETS)}"
                raise ValueError(f"preset: there is no preset {preset!r}: {hint}")
            defaults = dict(PRESETS[preset].fields)
        if "window_seconds" in fields or "window_frames" in fields:
            defaults.pop("window_seconds", None)
            defaults.pop("window_frames", None)
        init(self, preset=preset, **{**defaults, **fields})

    return init_with_preset

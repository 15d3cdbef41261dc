"""Convert stored spectrograms to the features of MusiCNN's front end (the preset `musicnn`).

    python recipes/convert_spectrograms.py SPECTROGRAMS FOLDER

SPECTROGRAMS is a folder of parquet files with tracks of 30 s. Their column `log_mel` is uint8 [128 mels, frames] up to
11,025 Hz, in decibels relative to the track's maximum, with a floor at -80. Each file is written to FOLDER under the same
name, as a feature set for training, probing and evaluation: the column `features`, float16 [1875 frames, 96 mels], replaces
`log_mel`, and all other columns (track_id, genre) are kept.

Mels and frames are interpolated (ours). The stored spectrograms have no absolute level; the maximum of each track is assumed
to be 18 dB (ours).
"""

import sys
from pathlib import Path

import datasets
import librosa
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hfmgc.errors import ConfigError, DataError, first_line, saving_to
from hfmgc.features.feature_extraction_spectrogram import SpectrogramFeatureExtractor
from hfmgc.files import atomic_write
from hfmgc.training.stages import run_recipe


LOUDEST = 18.0  # assumed maximum of a track in dB
SECONDS = 30
HIGHEST = 11025.0  # upper limit of the stored mels in Hz


def main() -> None:
    """Check all files, then convert each one."""
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    spectrograms, folder = map(Path, sys.argv[1:])
    paths = sorted(spectrograms.glob("*.parquet"))
    if not paths:
        raise DataError(f"{spectrograms}: not a folder with parquet files: pass the folder of the stored spectrograms")
    if folder.resolve() == spectrograms.resolve():
        raise ConfigError(f"{folder}: the result would replace the stored spectrograms: choose another folder")
    for path in paths:
        check_columns(path)

    extractor = SpectrogramFeatureExtractor(preset="musicnn")
    with saving_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for path in paths:
            tracks = datasets.Dataset.from_parquet(str(path)).with_format(
                "numpy", ["log_mel"], output_all_columns=True
            )
            columns = {name: feature for name, feature in tracks.features.items() if name != "log_mel"}
            columns["features"] = datasets.Array2D((None, extractor.num_bins), "float16")
            converted = tracks.map(
                lambda track: {"features": convert(track["log_mel"], extractor).astype(np.float16)},
                remove_columns="log_mel",
                features=datasets.Features(columns),
                writer_batch_size=100,
                desc=path.name,
            )
            with atomic_write(folder / path.name) as temporary:
                converted.to_parquet(str(temporary))
            print(f"{folder / path.name}: {len(converted)} tracks")


def check_columns(path: Path) -> None:
    """Refuse a parquet file that is damaged or has no spectrograms."""
    try:
        columns = pq.read_schema(path).names
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read as parquet ({first_line(error)}): remove or replace it") from error
    if "log_mel" not in columns:
        raise DataError(f"{path}: has no column log_mel, only {', '.join(columns)}: remove it or pass another folder")


def convert(levels: np.ndarray, extractor: SpectrogramFeatureExtractor) -> np.ndarray:
    """Convert stored levels, uint8 [mels, frames], to un-normalised features [frames, bins]."""
    decibels = levels.astype(np.float32) / 255 * 80 - 80 + LOUDEST
    mels, frames = levels.shape
    source = librosa.hz_to_mel(librosa.mel_frequencies(mels + 2, fmax=HIGHEST)[1:-1])
    target = librosa.hz_to_mel(librosa.mel_frequencies(extractor.num_bins + 2, fmax=extractor.sampling_rate / 2)[1:-1])
    decibels = interpolate(decibels, np.interp(target, source, np.arange(mels)))
    count = int(SECONDS * extractor.sampling_rate / extractor.hop_length)
    decibels = interpolate(decibels.T, (np.arange(count) + 0.5) / count * frames - 0.5)
    return np.log(10 ** (decibels / 10) + extractor.log_offset).astype(np.float32)


def interpolate(rows: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Interpolate linearly between `rows` [rows, columns] at fractional positions: [positions, columns]."""
    positions = positions.clip(0, len(rows) - 1)
    below = positions.astype(int)
    share = (positions - below)[:, None]
    return rows[below] * (1 - share) + rows[np.minimum(below + 1, len(rows) - 1)] * share


if __name__ == "__main__":
    run_recipe(main, resume_hint="the same command starts over")

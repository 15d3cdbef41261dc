"""Compare decoding and log-mel extraction with a plain librosa loop.

    python benchmarks/features.py [--quick]

Features of a corpus of shaped noise are extracted with the usual loop of tutorials (librosa.load, melspectrogram, power_to_db)
and with `hfmgc extract` in one and in two processes. Each result is a line `ratio NAME VALUE`: the time of the alternative
divided by ours, so larger is better.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
from measuring import in_new_process


SAMPLING_RATE = 22050
SECONDS = 30.0
# One thread per process, so that cores are compared, not the thread counts of libraries.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")


def main() -> None:
    """Write the corpus, run all comparisons and print their ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer tracks, for a smoke test")
    tracks, repeats = (120, 2) if parser.parse_args().quick else (800, 3)
    with tempfile.TemporaryDirectory() as folder:
        workdir = Path(folder)
        write_corpus(workdir / "music", tracks)
        write_corpus(workdir / "warm_up", 2)
        runs = {
            "plain librosa loop": (librosa_loop, workdir),
            "hfmgc, one process": (extraction, workdir, 1),
            "hfmgc, two processes": (extraction, workdir, 2),
        }
        times: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(repeats):  # take turns, so that a temporary slowdown of the machine affects all of them
            for name, call in runs.items():
                times[name].append(in_new_process(*call, **ONE_THREAD))
    for name, values in times.items():
        print(f"{name:<24}{min(values):8.2f} s for {tracks} tracks of {SECONDS:g} s")
    librosa, one, two = map(min, times.values())
    print(f"ratio one_process_vs_librosa {librosa / one:.3f}")
    print(f"ratio two_processes_vs_one {one / two:.3f}")
    print(f"ratio two_processes_vs_librosa {librosa / two:.3f}")


def write_corpus(folder: Path, tracks: int) -> None:
    """Write tracks of two genres: shaped noise from fixed seeds."""
    time_axis = np.arange(round(SECONDS * SAMPLING_RATE)) / SAMPLING_RATE
    for index in range(tracks):
        generator = np.random.default_rng(index)
        beat = 0.5 + 0.5 * np.sin(2 * np.pi * (1 + index % 3) * time_axis)
        waveform = 0.2 * beat * generator.standard_normal(len(time_axis))
        path = folder / ("even", "odd")[index % 2] / f"{index:05d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, waveform, SAMPLING_RATE, subtype="PCM_16")


def librosa_loop(workdir: Path) -> float:
    """Return the seconds of the librosa loop, including writing its result to disk."""
    import librosa

    def loop(folder: Path) -> None:
        features = []
        for file in sorted(folder.rglob("*.wav")):
            waveform, rate = librosa.load(file, sr=SAMPLING_RATE)
            mel = librosa.feature.melspectrogram(y=waveform, sr=rate, n_fft=2048, hop_length=512, n_mels=128)
            decibels = librosa.power_to_db(mel, ref=np.max)
            features.append(((decibels + 80) / 80).T.astype(np.float32))
        np.save(workdir / "librosa.npy", np.stack(features))

    loop(workdir / "warm_up")
    began = time.perf_counter()
    loop(workdir / "music")
    return time.perf_counter() - began


def extraction(workdir: Path, num_proc: int) -> float:
    """Return the seconds in which hfmgc extracts the same features to the same disk."""
    import datasets

    from hfmgc.data.extraction import extract_corpus
    from hfmgc.data.sources import open_source
    from hfmgc.features.feature_extraction_spectrogram import SpectrogramFeatureExtractor

    datasets.config.HF_DATASETS_CACHE = workdir / "cache"
    datasets.disable_progress_bars()
    fields = {"normalize_over": "track", "window_seconds": SECONDS}
    extractor = SpectrogramFeatureExtractor(preset="divide_and_conquer_30s", **fields)
    with tempfile.TemporaryDirectory(dir=workdir) as folder:
        extract_corpus(open_source(str(workdir / "warm_up")), extractor, Path(folder) / "warm_up")
        began = time.perf_counter()
        source = open_source(str(workdir / "music"))
        extract_corpus(source, extractor, Path(folder) / "out", num_proc=num_proc, shard_size=10)
        return time.perf_counter() - began


if __name__ == "__main__":
    main()

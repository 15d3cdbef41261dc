"""Compare a pre-trained network with hand-made features, using the same classical heads, clips and folds.

    python benchmarks/handmade_features.py DATA [--data_options '{folder: GENRES}'] [--folds 6] [--seeds 3]

DATA is a folder with one subfolder for each genre, or the name of a dataset. The representations are FMA's 518 features,
GTZAN's 57, and the embeddings of the packaged MusiCNN (`hfmgc embed`, `package:msd`). Each is cross-validated with stratified
folds, drawn once for each seed; scalers are fitted on the training folds. The last column is the difference from the accuracy
with FMA's features, with its 95 % bootstrap interval over clips.

Folds by track can have clips of one artist in training and test, which favours representations that recognise artists. If
artists are known, a second table has folds by artist, for the genres with at least three artists.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from hfmgc.data.corpus import Corpus, decode_corpus
from hfmgc.data.features import extract_features, track_features
from hfmgc.data.sources import open_source
from hfmgc.evaluation.classical import log_probabilities
from hfmgc.evaluation.metrics import interval_of_shares
from hfmgc.features.feature_extraction_handmade import HandmadeFeatureExtractor
from hfmgc.inference.embed import embed_tracks, read_embeddings
from hfmgc.settings import load_yaml
from hfmgc.training.classical import PipelineFitter


HEADS = {
    "svm": ("svm", None),
    "svd_svm 10": ("svd_svm", 10),
    "svd_svm 40": ("svd_svm", 40),
    "forest_svm 50": ("forest_svm", 50),
    "naive_bayes": ("naive_bayes", None),
    "knn": ("knn", None),
}
SAMPLING_RATE = 22050
# A genre with fewer artists is left out of the folds by artist.
MIN_ARTISTS = 3


def main() -> None:
    """Compute the representations and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--data_options", type=load_yaml, default={})
    parser.add_argument("--folds", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    corpus = decode_corpus(open_source(options.data, options.data_options), SAMPLING_RATE)
    targets = np.array([corpus.genres.index(genre) for genre in corpus.tracks["genre"]])
    ids, artists = list(corpus.tracks["track_id"]), list(corpus.tracks["artist"])
    features: dict[str, np.ndarray] = {}
    for name, compute in REPRESENTATIONS.items():
        start = time.perf_counter()
        features[name] = compute(options, corpus)
        seconds = time.perf_counter() - start
        print(f"{name}: {features[name].shape[1]} values, {seconds:.0f} s (cached features are fast)")
    compare(features, targets, np.array(ids), options.folds, options.seeds, "track")
    if any(artists):
        groups = np.array([artist or track_id for artist, track_id in zip(artists, ids, strict=True)])
        enough = [len(set(groups[targets == target])) >= MIN_ARTISTS for target in targets]
        selected = {name: values[enough] for name, values in features.items()}
        compare(selected, targets[enough], groups[enough], options.folds, options.seeds, "artist")


def compare(
    features: dict[str, np.ndarray], targets: np.ndarray, groups: np.ndarray, folds: int, seeds: int, by: str
) -> None:
    """Print the accuracy of each head on each representation."""
    print(f"\n{len(targets)} clips of {len(set(targets))} genres, {folds} folds by {by}, {seeds} seeds")
    print(f"{'head':<15}{'representation':<18}{'accuracy':<25}against fma_518")
    for head, (pipeline, dimensions) in HEADS.items():
        correct = {
            name: cross_validate(values, targets, groups, pipeline, dimensions, folds, seeds)
            for name, values in features.items()
        }
        for name, shares in correct.items():
            low, high, _ = interval_of_shares(shares)
            line = f"{head:<15}{name:<18}{shares.mean():.3f} ({low:.3f} to {high:.3f})   "
            if name != "fma_518":
                difference = shares - correct["fma_518"]
                low, high, _ = interval_of_shares(difference)
                line += f"{difference.mean():+.3f} ({low:+.3f} to {high:+.3f})"
            print(line)


def cross_validate(
    values: np.ndarray,
    targets: np.ndarray,
    groups: np.ndarray,
    pipeline: str,
    dimensions: int | None,
    folds: int,
    seeds: int,
) -> np.ndarray:
    """Return for each track [tracks] the share of seeds with which it is classified correctly while held out."""
    correct = np.zeros((seeds, len(targets)))
    for seed in range(seeds):
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        for train, held_out in splitter.split(values, targets, groups):
            size = dimensions and min(dimensions, len(train), values.shape[1])
            fitted = PipelineFitter(values[train], targets[train]).fit(pipeline, size, seed)
            read = values[held_out] if fitted.columns is None else values[held_out][:, fitted.columns]
            answers = log_probabilities(fitted.pipeline, read, targets.max() + 1).argmax(axis=1)
            correct[seed, held_out] = answers == targets[held_out]
    return correct.mean(axis=0)


def _handmade(layout: str) -> Callable:
    def compute(options: argparse.Namespace, corpus: Corpus) -> np.ndarray:
        extractor = HandmadeFeatureExtractor(layout=layout, sampling_rate=SAMPLING_RATE)
        tracks = extract_features(corpus.tracks, extractor)
        return np.concatenate([track_features(track, extractor) for track in tracks])

    return compute


def _musicnn(options: argparse.Namespace, corpus: Corpus) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "out.parquet")
        embed_tracks("package:msd", options.data, output, data_options=options.data_options)
        table = read_embeddings(output)
    row_of = {track_id: row for row, track_id in enumerate(table.rows["track_id"].to_pylist())}
    return table.values[[row_of[track_id] for track_id in corpus.tracks["track_id"]]]


REPRESENTATIONS = {
    "fma_518": _handmade("fma_518"),
    "gtzan_57": _handmade("gtzan_57"),
    "musicnn": _musicnn,
}


if __name__ == "__main__":
    main()

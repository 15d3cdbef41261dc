"""Write the packaged checkpoint `gtzan`: MusiCNN (`msd`) with a head for GTZAN's ten genres.

    python recipes/package_musicnn_gtzan.py SPECTROGRAMS CLIPS LISTS [FOLDER]

SPECTROGRAMS holds the fault-filtered tracks in `train.parquet` and `validation.parquet`, written by `convert_spectrograms.py`.
CLIPS is a folder with GTZAN's audio, LISTS a folder with the fault-filtered lists. FOLDER defaults to the checkpoint's folder
in the package.

The head is fitted to the training tracks in two forms: stored spectrograms and audio clips. Stored spectrograms are blurred in
time. Their representations are therefore computed with batch norms re-estimated on the stored training tracks, and
standardised separately from those of audio. The checkpoint classifies audio: it has the original batch norms and the
standardisation of the training clips. The stored validation tracks choose the regularisation strength; the validation clips
are only evaluated. Test tracks are not read.
"""

import copy
import json
import shutil
import sys
from pathlib import Path

import datasets
import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from hfmgc.checkpoints import FOLDER
from hfmgc.data.audio import load_audio
from hfmgc.evaluation.checkpoints import load_checkpoint
from hfmgc.evaluation.metrics import accuracy_interval
from hfmgc.features.feature_extraction_spectrogram import SpectrogramFeatureExtractor
from hfmgc.models.configuration_musicnn import MusiCNNConfig
from hfmgc.models.modeling_musicnn import MusiCNNForAudioClassification, MusiCNNModel
from hfmgc.training.probe_heads import (
    Representations,
    fit_logistic,
    fold_standardization,
    vote_by_track,
    window_logits,
)


GENRES = ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock")
STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
# Windows of each training track on which batch norms are re-estimated.
WINDOWS = slice(0, None, 4)
CARD = Path(__file__).parent.parent / "model_cards" / "musicnn-gtzan.md"


def main() -> None:
    """Write the checkpoint and print its figures."""
    spectrograms, clips, lists = map(Path, sys.argv[1:4])
    folder = Path(sys.argv[4]) if len(sys.argv) > 4 else FOLDER / "gtzan"
    extractor = SpectrogramFeatureExtractor(preset="musicnn")
    encoder = load_encoder()
    train, validation = (load_stored(spectrograms / f"{side}.parquet", extractor) for side in ("train", "validation"))
    stored_encoder = copy.deepcopy(encoder)
    reestimate_batch_norm(stored_encoder, [stack[WINDOWS] for stack in train.values()])
    sides = {
        "train, stored": represent(stored_encoder, train),
        "validation, stored": represent(stored_encoder, validation),
        "train, audio": represent(encoder, load_clips(clips, lists / "train_filtered.txt", extractor)),
        "validation, audio": represent(encoder, load_clips(clips, lists / "valid_filtered.txt", extractor)),
    }
    stored = sides["train, stored"].standardization()
    mean, deviation = sides["train, audio"].standardization()
    # In so few clips some units hardly vary.
    audio = mean, np.maximum(np.where(np.isinf(deviation), 0, deviation), stored[1] / 5)
    sides = {side: standardize(tracks, *(stored if "stored" in side else audio)) for side, tracks in sides.items()}
    training_data = Representations(
        sides["train, stored"].windows + sides["train, audio"].windows,
        np.concatenate([sides["train, stored"].targets, sides["train, audio"].targets]),
    )
    heads = {strength: fit_logistic(training_data, len(GENRES), strength) for strength in STRENGTHS}
    scores = {strength: accuracy(head, sides["validation, stored"])[0] for strength, head in heads.items()}
    strength = max(scores, key=scores.get)
    for candidate, score in scores.items():
        print(f"strength {candidate:g}: validation, stored: {score:.3f}")
    figures = {"strength": strength}
    for side, tracks in sides.items():
        share, low, high = accuracy(heads[strength], tracks)
        figures[side] = {"tracks": len(tracks.windows), "accuracy": share, "interval": [low, high]}
    print(json.dumps(figures, indent=2))
    save(encoder, fold_standardization(heads[strength], *audio), extractor, folder)


def standardize(tracks: Representations, mean: np.ndarray, deviation: np.ndarray) -> Representations:
    """Return (x - mean) / deviation of all representations."""
    windows = [((stack - mean) / deviation).astype(np.float32) for stack in tracks.windows]
    return Representations(windows, tracks.targets)


def load_encoder() -> MusiCNNModel:
    """Load the encoder of `msd`, with the pooled representation."""
    weights = load_checkpoint("package:msd")[0].model.state_dict()
    encoder = MusiCNNModel(MusiCNNConfig(representation="pooled"))
    encoder.load_state_dict({name: weights[name] for name in encoder.state_dict()})
    return encoder.eval()


def load_stored(path: Path, extractor: SpectrogramFeatureExtractor) -> dict[str, np.ndarray]:
    """Load stored tracks and cut them into windows [windows, frames, bins], by track id."""
    tracks = datasets.Dataset.from_parquet(str(path), columns=["track_id", "features"]).with_format("numpy")
    return {str(track["track_id"]): extractor.cut_features(track["features"].astype(np.float32)) for track in tracks}


def load_clips(clips: Path, list_file: Path, extractor: SpectrogramFeatureExtractor) -> dict[str, np.ndarray]:
    """Load the clips in a list and cut them into windows [windows, frames, bins], by track id."""
    ids = {Path(line).stem for line in list_file.read_text(encoding="utf-8").split()}
    paths = [path for path in sorted(clips.glob("*/*.wav")) if path.stem in ids]
    return {path.stem: extractor.track_windows(load_audio(path, extractor.sampling_rate)) for path in paths}


def reestimate_batch_norm(encoder: MusiCNNModel, stacks: list[np.ndarray]) -> None:
    """Set the means and variances of all batch norms to those of these windows."""
    windows = torch.from_numpy(np.concatenate(stacks))
    order = torch.randperm(len(windows), generator=torch.Generator().manual_seed(0))
    update_bn((windows[rows] for rows in order.split(32)), encoder.train())
    encoder.eval()


@torch.no_grad()
def represent(encoder: MusiCNNModel, tracks: dict[str, np.ndarray]) -> Representations:
    """Return the representations of all windows, with each track's genre, which is the first part of its id."""
    stacks = [
        torch.cat([encoder.embed_windows(part).embeddings for part in torch.from_numpy(stack).split(2)]).numpy()
        for stack in tracks.values()
    ]
    return Representations(stacks, np.array([GENRES.index(track_id.split(".")[0]) for track_id in tracks]))


def accuracy(head: nn.Linear, tracks: Representations) -> tuple[float, float, float]:
    """Return the accuracy over tracks, where windows vote, and the ends of its 95 % interval."""
    answers = vote_by_track(window_logits(head, tracks)).argmax(-1).numpy()
    interval = accuracy_interval(answers, tracks.targets)
    return float((answers == tracks.targets).mean()), interval.low, interval.high


def save(encoder: MusiCNNModel, head: nn.Linear, extractor: SpectrogramFeatureExtractor, folder: Path) -> None:
    """Write the checkpoint and its card."""
    config = MusiCNNConfig(
        representation="pooled", id2label=dict(enumerate(GENRES)), label2id={g: i for i, g in enumerate(GENRES)}
    )
    model = MusiCNNForAudioClassification(config)
    model.model.load_state_dict(encoder.state_dict())
    model.classifier.load_state_dict(head.state_dict())
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    shutil.copy(CARD, folder / "README.md")
    print(f"{folder}: {sum(path.stat().st_size for path in folder.iterdir()) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()

"""Predictions for many files: `hfmgc predict`.

Threads decode files ahead of the model (decoding releases Python's lock), and windows of several songs share a batch. A
song is decoded and cut in blocks, so that memory does not grow with its length.
"""

import glob
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm
from transformers import PreTrainedModel

from ..checkpoints import FOLDER, PREFIX
from ..data.audio import AUDIO_SUFFIXES, FOREIGN_AUDIO_SUFFIXES, DecodedAudio, decode_audio
from ..errors import AudioError, ConfigError, DataError
from ..evaluation.checkpoints import load_checkpoint, require_audio
from ..features.feature_extraction_windowed import WindowedFeatureExtractor
from ..models.voting import vote
from ..text import one_line, to_unicode


if TYPE_CHECKING:
    from .timeline import TimelineWriter  # imports matplotlib

# Without a checkpoint on the command line: genres from the first of these that is packaged, tags from "msd".
PACKAGED = ("gtzan", "msd")
# Windows of a song that are cut at a time.
BLOCK_WINDOWS = 16
# Windows per batch. On a CPU MusiCNN takes 2.5 times as long for each of four windows as for each of two.
BATCH_SIZES = {"cpu": 2, "cuda": 32}
# Fields of a front end that only decide where windows lie.
_WINDOW_FIELDS = ("window_policy", "max_windows", "window_overlap", "window_seed", "short_tracks", "auto_map")


@dataclass
class Song:
    """A song while it is classified, and then what the models predict for it.

    Args:
        file: Its path.
        problem: Why it cannot be used.
        seconds: Its length.
        starts: Seconds at which its windows start [windows].
        blocks: Its windows, some at a time, cut when they are needed.
        logits: For each model [windows, labels]; the first `classified` rows are set. Allocated in one piece: small blocks between
            the large ones of a forward pass would fragment the memory.
        row: `file`, `genre` (the likeliest), `genres` and `tags` (lists of label and score), `windows`, `agreeing` (windows
            whose likeliest genre is `genre`), `seconds`, `heard_seconds`, `note` and `problem`.
        genres: Names of all genres.
        ends: Seconds at which its windows end [windows].
        probabilities: Of each window's genres [windows, genres].
    """

    file: str
    problem: str = ""
    seconds: float = 0.0
    starts: np.ndarray = field(default_factory=lambda: np.zeros(0))
    blocks: Iterable[np.ndarray] = ()
    logits: list[torch.Tensor] = field(default_factory=list)
    classified: int = 0
    row: dict[str, Any] = field(default_factory=dict)
    genres: list[str] = field(default_factory=list)
    ends: np.ndarray | None = None
    probabilities: np.ndarray | None = None

    @property
    def is_classified(self) -> bool:
        """Whether all of its windows are; there are none of an unusable file."""
        return self.classified == len(self.starts)


class SongPredictor:
    """One or several checkpoints with the same front end, for any number of files.

    Args:
        checkpoints: Folders, repositories on the Hub, or `package:NAME`. The first predicts the genres, the
            last the tags if its config names which of its labels are genres.
        all_windows: Cover the whole track, even if the front end takes a limited number of windows.
        batch_size: Windows per batch; by default that of `BATCH_SIZES`.
        num_proc: Files that are decoded at the same time.
        shortest_seconds: Shorter audio is unusable.
        top_k: How many genres and tags to return.
        timeline: Writes the genres along each song as well.

    Raises:
        ConfigError: If the front ends differ.
        CheckpointError: If they do not take audio.
    """

    def __init__(
        self,
        checkpoints: Sequence[str],
        *,
        all_windows: bool = False,
        batch_size: int | None = None,
        num_proc: int = 1,
        shortest_seconds: float = 0.0,
        top_k: int = 5,
        timeline: "TimelineWriter | None" = None,
    ):
        loaded = [load_checkpoint(checkpoint) for checkpoint in checkpoints]
        self.models = [model for model, _ in loaded]
        self.extractor = loaded[0][1]
        for name, (_, extractor) in zip(checkpoints, loaded, strict=True):
            if _front_end(extractor) != _front_end(self.extractor):
                raise ConfigError(f"{name}: its front end is not that of {checkpoints[0]}: give one checkpoint")
        if all_windows and self.extractor.window_policy != "all":
            self.extractor.window_policy, self.extractor.max_windows = "even", None
        require_audio(checkpoints[0], self.extractor)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.batch_size, self.num_proc = batch_size or BATCH_SIZES[device], num_proc
        self.shortest_seconds, self.top_k, self.timeline = shortest_seconds, top_k, timeline
        for model in self.models:
            model.to(device)
        self.shared_stages = _shared_stages(self.models)

    def predict(self, files: Sequence[str]) -> Iterator[Song]:
        """Yield each file with its prediction, in order."""
        songs: deque[Song] = deque()
        windows = self._windows(files, songs)
        with tqdm(total=len(files), unit="song", disable=True if len(files) == 1 else None) as progress:
            while True:
                batch = list(islice(windows, self.batch_size))
                if batch:
                    self._classify(batch)
                while songs and songs[0].is_classified:
                    song = songs.popleft()
                    self._set_prediction(song)
                    if self.timeline:
                        self.timeline.write(song)
                    yield song
                    progress.update()
                if not batch:
                    return

    def _windows(self, files: Sequence[str], songs: deque[Song]) -> Iterator[tuple[Song, np.ndarray]]:
        """Yield the windows of all songs, each of which is appended to `songs` first."""
        for song in self._decoded(files):
            songs.append(song)
            for block in song.blocks:
                yield from ((song, window) for window in block)

    def _decoded(self, files: Sequence[str]) -> Iterator[Song]:
        with ThreadPoolExecutor(self.num_proc) as pool:
            ahead: deque = deque()
            for file in files:
                ahead.append(pool.submit(self._open, file))
                if len(ahead) > self.num_proc:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def _open(self, file: str) -> Song:
        """Decode a file and cut its first block of windows; the others are cut when they are needed."""
        try:
            audio = decode_audio(file, self.extractor.sampling_rate, shortest_seconds=self.shortest_seconds)
        except AudioError as error:
            return Song(file, problem=error.reason)
        starts, blocks = _cut(audio, self.extractor)
        logits = [torch.empty(len(starts), model.config.num_labels) for model in self.models]
        return Song(file, "", audio.seconds, starts, chain([next(blocks)], blocks), logits)

    @torch.inference_mode()
    def _classify(self, batch: list[tuple[Song, np.ndarray]]) -> None:
        states = torch.from_numpy(np.stack([window for _, window in batch])).to(self.models[0].device)
        if self.shared_stages:
            states = self.models[0].model.run_stages(states, 0, self.shared_stages)
        outputs = [model(states, first_stage=self.shared_stages) for model in self.models]
        logits = [output.window_logits[:, 0].float().cpu() for output in outputs]
        for index, (song, _) in enumerate(batch):
            for known, new in zip(song.logits, logits, strict=True):
                known[song.classified] = new[index]
            song.classified += 1

    def _set_prediction(self, song: Song) -> None:
        song.row = {
            "file": to_unicode(song.file),
            "genre": None,
            "genres": [],
            "tags": [],
            "windows": len(song.starts),
        }
        song.row |= {"agreeing": 0, "seconds": song.seconds, "heard_seconds": 0.0, "note": "", "problem": song.problem}
        if song.problem:
            return
        row, model, tagger = song.row, self.models[0], self.models[-1]
        labels, tags = _labels(model), _labels(tagger)
        song.genres = getattr(model.config, "genres", None) or labels
        chosen = [labels.index(genre) for genre in song.genres]
        row["genres"] = _likeliest(song.genres, _voted(model, song.logits[0])[chosen], self.top_k)
        if getattr(tagger.config, "genres", None):
            row["tags"] = _likeliest(tags, _voted(tagger, song.logits[-1]), self.top_k)
        row["genre"] = row["genres"][0]["label"]
        song.probabilities = _probabilities(model, song.logits[0])[:, chosen].numpy()
        row["agreeing"] = int((song.probabilities.argmax(axis=1) == song.genres.index(row["genre"])).sum())
        length = song.seconds if self.extractor.covers_track else self.extractor.window_seconds
        song.ends = np.minimum(song.starts + length, song.seconds)
        heard = float((np.minimum(song.ends, np.append(song.starts[1:], np.inf)) - song.starts).sum())
        row["heard_seconds"] = heard
        if song.seconds < self.extractor.window_seconds:
            filled = "looped" if self.extractor.short_tracks == "loop" else "padded"
            row["note"] = f"shorter than a window of {self.extractor.window_seconds:.2f} s: {filled}"
        elif heard < 0.95 * song.seconds:
            row["note"] = f"heard {heard:.0f} of {song.seconds:.0f} s: use --all_windows to hear all"


def find_files(paths: Iterable[str]) -> list[str]:
    """Return the files that paths name, each once: a file, all audio in a folder, a glob, or `-` for a list on stdin.

    Raises:
        DataError: If a folder has no audio, a glob matches nothing, or the list is empty.
    """
    files: dict[str, str] = {}  # by absolute path
    for path in paths:
        if path == "-":
            lines = (line for line in sys.stdin.buffer.read().splitlines() if line.strip() not in (b"", b"-"))
            found, problem = find_files(map(os.fsdecode, lines)), "no files in the list on standard input"
        elif Path(path).is_dir():
            suffixes = (*AUDIO_SUFFIXES, *FOREIGN_AUDIO_SUFFIXES)
            audio = (file for file in Path(path).rglob("[!.]*") if file.suffix.lower() in suffixes)
            found = sorted(str(file) for file in audio if not file.is_dir())
            problem = "no audio in this folder, and no config.json of a checkpoint"
        elif glob.has_magic(path) and not Path(path).exists():
            found = [file for file in sorted(glob.glob(path, recursive=True)) if not Path(file).is_dir()]  # noqa: PTH207 (Path refuses absolute patterns)
            problem = "no file matches"
        else:
            found, problem = [path], ""
        if not found:
            raise DataError(f"{path}: {problem}")
        for file in found:
            files.setdefault(os.path.abspath(file), file)  # noqa: PTH100 (Path.resolve would follow links)
    return list(files.values())


def split_checkpoint(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the checkpoints and the paths of a command line, whose first argument may be a checkpoint.

    It is one if it is `package:NAME` or a folder with a config.json, or looks like a repository on the Hub and does not exist here.

    Raises:
        ConfigError: If nothing follows a checkpoint.
    """
    first = arguments[0]
    is_run = first.startswith(PREFIX) or Path(first, "config.json").is_file()
    is_repository = first.count("/") == 1 and not (Path(first).suffix or glob.has_magic(first) or Path(first).exists())
    if is_run and len(arguments) == 1:
        raise ConfigError(f"{first} is a checkpoint: give audio files or folders after it")
    if is_run or (is_repository and len(arguments) > 1):
        return [first], list(arguments[1:])
    return [PREFIX + name for name in PACKAGED if (FOLDER / name / "config.json").is_file()], list(arguments)


def _front_end(extractor: WindowedFeatureExtractor) -> dict[str, Any]:
    return {name: value for name, value in extractor.to_dict().items() if name not in _WINDOW_FIELDS}


def _cut(audio: DecodedAudio, extractor: WindowedFeatureExtractor) -> tuple[np.ndarray, Iterator[np.ndarray]]:
    """Return the seconds at which a song's windows start and blocks of the windows, as the extractor's `track_windows`."""
    frames, window_frames = extractor.count_frames(audio.length), extractor.cut_frames
    # Some front ends need the whole track: for random windows, a constant-Q transform, or normalisation over the track.
    whole = extractor.window_policy == "random" or extractor.frame_span(0, 1) is None or frames <= window_frames
    if whole or extractor.waveform_normalization != "none":
        features = extractor.track_features(audio.waveform)
        starts = extractor.starts(len(features), features)
        blocks = iter([extractor.cut_features(features)])
    else:
        starts = extractor.starts(frames)
        windows = (_window(audio, extractor, start) for start in starts)
        blocks = (np.stack(block) for block in iter(lambda: list(islice(windows, BLOCK_WINDOWS)), []))
    # The last window that fits ends with the song.
    spare = max(0.0, audio.seconds - extractor.window_seconds)
    return starts / max(1, frames - window_frames) * spare, blocks


def _window(audio: DecodedAudio, extractor: WindowedFeatureExtractor, first: int) -> np.ndarray:
    start, stop, skipped = extractor.frame_span(first, extractor.cut_frames)
    frames = extractor.transform(audio.read(start, stop))
    return extractor.normalize_window(frames[skipped : skipped + extractor.cut_frames])


def _shared_stages(models: Sequence[PreTrainedModel]) -> int:
    """Return how many first stages of these models have the same weights, so that they are computed once."""
    first, *others = (model.model for model in models)
    if not others or any(type(other) is not type(first) for other in others):
        return 0
    stages, weights = min(encoder.num_stages for encoder in (first, *others)), first.state_dict()
    for other in (encoder.state_dict() for encoder in others):
        different = (
            first.stage_of(name)
            for name, one in weights.items()
            if name not in other or not torch.equal(one, other[name])
        )
        stages = min([stages, *different])
    return stages


def _labels(model: PreTrainedModel) -> list[str]:
    return [model.config.id2label[index] for index in range(model.config.num_labels)]


def _voted(model: PreTrainedModel, window_logits: torch.Tensor) -> torch.Tensor:
    """Return the probabilities of a song [labels] from the logits of its windows [windows, labels]."""
    logits = vote(window_logits[None], rule=model.config.voting, multi_label=_is_multi_label(model))
    return _probabilities(model, logits)[0]


def _probabilities(model: PreTrainedModel, logits: torch.Tensor) -> torch.Tensor:
    return logits.sigmoid() if _is_multi_label(model) else logits.softmax(dim=-1)


def _is_multi_label(model: PreTrainedModel) -> bool:
    return model.config.problem_type == "multi_label_classification"


def _likeliest(labels: Sequence[str], probabilities: torch.Tensor, top_k: int) -> list[dict[str, Any]]:
    order = probabilities.argsort(descending=True)[:top_k].tolist()
    return [{"label": labels[index], "score": float(probabilities[index])} for index in order]


def predictions_text(rows: Sequence[dict[str, Any]]) -> str:
    """Return predictions as a table, then the notes and the unusable files, a line each."""
    usable = [row for row in rows if not row["problem"]]
    titles = ("file", "genre", "windows", "other genres", "tags" if any(row["tags"] for row in usable) else "")
    lines = [titles] if usable else []
    for row in usable:
        genre, *others = map(_with_score, row["genres"])
        tags = map(_with_score, row["tags"])
        agreeing = f"{row['agreeing']} of {row['windows']}"
        lines.append((one_line(row["file"]), genre, agreeing, ", ".join(others), ", ".join(tags)))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    text += [one_line(f"{row['file']}: {row['note']}") for row in rows if row["note"]]
    text += [one_line(f"{row['file']}: unusable: {row['problem']}") for row in rows if row["problem"]]
    return "\n".join(text)


def _with_score(label: dict[str, Any]) -> str:
    return one_line(f"{label['label']} {label['score']:.2f}")

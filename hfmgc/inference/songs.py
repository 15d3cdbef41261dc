"""Predictions for many files: `hfmgc predict`.

Threads decode files ahead of the model (decoding releases the GIL), and a batch can hold windows of several songs.
Songs are decoded and cut in blocks, so memory does not grow with their length.
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

# The checkpoints that are used if the command line names none: the first that is packaged predicts the genres, "msd"
# the tags.
PACKAGED = ("gtzan", "msd")
# Windows of a song that are cut at a time.
BLOCK_WINDOWS = 16
# Windows per batch. On a CPU, MusiCNN takes 2.5 times as long per window in batches of four as in batches of two.
BATCH_SIZES = {"cpu": 2, "cuda": 32}
# Fields of a front end that affect only the positions of windows.
_WINDOW_FIELDS = ("window_policy", "max_windows", "window_overlap", "window_seed", "short_tracks", "auto_map")


@dataclass
class Song:
    """A song and, once all of its windows are classified, the prediction.

    Args:
        file: Path of the file.
        problem: Why the file cannot be used; "" if it can.
        seconds: Length of the song.
        starts: Start of each window in seconds [windows]; empty for an unusable file.
        blocks: The windows in blocks, which are cut on demand.
        logits: The logits of each model [windows, labels], of which the first `classified` rows are set. They are
            allocated at once: small allocations between the large ones of a forward pass would fragment the memory.
        classified: Number of windows that are classified.
        row: The prediction: `file`, `genre` (the likeliest), `genres` and `tags` (lists of label and score),
            `windows`, `agreeing` (windows whose likeliest genre is `genre`), `seconds`, `heard_seconds` (covered by
            windows), `note` and `problem`.
        genres: Names of all genres.
        ends: End of each window in seconds [windows].
        probabilities: Probabilities of the genres in each window [windows, genres].
        truncation: How much of the file is missing; "" if it is complete.
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
    truncation: str = ""


class SongPredictor:
    """Predicts genres and tags of files with one or more checkpoints that have the same front end.

    Args:
        checkpoints: Folders, repositories on the Hub, or `package:NAME`. The first checkpoint predicts the genres. The
            last predicts tags if its config says which of its labels are genres.
        all_windows: Cover the whole of each song, even if the front end limits the number of windows.
        batch_size: Windows per batch; by default from `BATCH_SIZES`.
        num_proc: Number of files that are decoded at the same time.
        shortest_seconds: Shorter audio is unusable.
        top_k: Number of genres and tags to return.
        timeline: Writes the genres along each song.

    Raises:
        ConfigError: If the front ends differ.
        CheckpointError: If a checkpoint cannot be loaded or does not take audio.
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
                raise ConfigError(f"{name}: the front end differs from that of {checkpoints[0]}: give one checkpoint")
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
        """Yield a song with its prediction for each file, in order."""
        songs: deque[Song] = deque()
        windows = self._windows(files, songs)
        with tqdm(total=len(files), unit="song", disable=True if len(files) == 1 else None) as progress:
            while True:
                batch = list(islice(windows, self.batch_size))
                if batch:
                    self._classify(batch)
                while songs and songs[0].classified == len(songs[0].starts):
                    song = songs.popleft()
                    self._set_prediction(song)
                    if self.timeline:
                        self.timeline.write(song)
                    yield song
                    progress.update()
                if not batch:
                    return

    def _windows(self, files: Sequence[str], songs: deque[Song]) -> Iterator[tuple[Song, np.ndarray]]:
        """Yield the windows of all songs. A song is appended to `songs` before its first window is yielded."""
        for song in self._open_ahead(files):
            songs.append(song)
            for block in song.blocks:
                yield from ((song, window) for window in block)

    def _open_ahead(self, files: Sequence[str]) -> Iterator[Song]:
        """Yield the songs in order, while threads open the next `num_proc` files."""
        with ThreadPoolExecutor(self.num_proc) as pool:
            pending: deque = deque()
            for file in files:
                pending.append(pool.submit(self._open, file))
                if len(pending) > self.num_proc:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()

    def _open(self, file: str) -> Song:
        """Decode a file and cut its first block of windows."""
        try:
            audio = decode_audio(file, self.extractor.sampling_rate, shortest_seconds=self.shortest_seconds)
        except AudioError as error:
            return Song(file, problem=error.reason)
        starts, blocks = _cut(audio, self.extractor)
        logits = [torch.empty(len(starts), model.config.num_labels) for model in self.models]
        blocks = chain([next(blocks)], blocks)
        return Song(file, "", audio.seconds, starts, blocks, logits, truncation=audio.truncation)

    @torch.inference_mode()
    def _classify(self, batch: list[tuple[Song, np.ndarray]]) -> None:
        states = torch.from_numpy(np.stack([window for _, window in batch])).to(self.models[0].device)
        if self.shared_stages:
            states = self.models[0].model.run_stages(states, 0, self.shared_stages)
        outputs = [model(states, first_stage=self.shared_stages) for model in self.models]
        logits = [output.window_logits[:, 0].float().cpu() for output in outputs]
        for index, (song, _) in enumerate(batch):
            for song_logits, batch_logits in zip(song.logits, logits, strict=True):
                song_logits[song.classified] = batch_logits[index]
            song.classified += 1

    def _set_prediction(self, song: Song) -> None:
        """Vote over the windows, and set `row`, `genres`, `ends` and `probabilities`."""
        row = song.row = {
            "file": to_unicode(song.file),
            "genre": None,
            "genres": [],
            "tags": [],
            "windows": len(song.starts),
            "agreeing": 0,
            "seconds": song.seconds,
            "heard_seconds": 0.0,
            "note": "",
            "problem": song.problem,
        }
        if song.problem:
            return
        model, tagger = self.models[0], self.models[-1]
        labels = _labels(model)
        song.genres = getattr(model.config, "genres", None) or labels
        genre_columns = [labels.index(genre) for genre in song.genres]
        row["genres"] = _likeliest(song.genres, _vote(model, song.logits[0])[genre_columns], self.top_k)
        if getattr(tagger.config, "genres", None):
            row["tags"] = _likeliest(_labels(tagger), _vote(tagger, song.logits[-1]), self.top_k)
        row["genre"] = row["genres"][0]["label"]
        song.probabilities = _probabilities(model, song.logits[0])[:, genre_columns].numpy()
        row["agreeing"] = int((song.probabilities.argmax(axis=1) == song.genres.index(row["genre"])).sum())
        length = song.seconds if self.extractor.covers_track else self.extractor.window_seconds
        song.ends = np.minimum(song.starts + length, song.seconds)
        covered = float((np.minimum(song.ends, np.append(song.starts[1:], np.inf)) - song.starts).sum())
        row["heard_seconds"] = covered
        notes = [f"truncated: {song.truncation}"] if song.truncation else []
        if song.seconds < self.extractor.window_seconds:
            how = "looped" if self.extractor.short_tracks == "loop" else "padded"
            notes.append(f"shorter than a window of {self.extractor.window_seconds:.2f} s: {how}")
        elif covered < 0.95 * song.seconds:
            notes.append(f"windows cover {covered:.0f} of {song.seconds:.0f} s: use --all_windows to cover all")
        row["note"] = "; ".join(notes)


def find_files(paths: Iterable[str]) -> list[str]:
    """Return the files that paths name, without duplicates.

    A path is a file, a folder (all audio in it and its subfolders), a glob, or `-` for a list of paths on standard
    input.

    Raises:
        DataError: If a folder has no audio, a glob matches nothing, or the list is empty.
    """
    files: dict[str, str] = {}  # absolute path -> path as given
    for path in paths:
        if path == "-":
            lines = (line for line in sys.stdin.buffer.read().splitlines() if line.strip() not in (b"", b"-"))
            found, problem = find_files(map(os.fsdecode, lines)), "no files in the list on standard input"
        elif Path(path).is_dir():
            suffixes = (*AUDIO_SUFFIXES, *FOREIGN_AUDIO_SUFFIXES)
            audio = (file for file in Path(path).rglob("[!.]*") if file.suffix.lower() in suffixes)
            found = sorted(str(file) for file in audio if not file.is_dir())
            problem = "no audio and no config.json of a checkpoint in this folder"
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
    """Return the checkpoints and the paths in the arguments `[CHECKPOINT] PATH ...`.

    The first argument is a checkpoint if it is `package:NAME`, a folder with a config.json, or `USER/NAME` and not an
    existing path. Otherwise the checkpoints are the packaged ones.

    Raises:
        ConfigError: If there is a checkpoint and no path.
    """
    first = arguments[0]
    is_run = first.startswith(PREFIX) or Path(first, "config.json").is_file()
    is_repository = first.count("/") == 1 and not (Path(first).suffix or glob.has_magic(first) or Path(first).exists())
    if is_run and len(arguments) == 1:
        raise ConfigError(f"{first}: a checkpoint without audio: name files or folders after it")
    if is_run or (is_repository and len(arguments) > 1):
        return [first], list(arguments[1:])
    return [PREFIX + name for name in PACKAGED if (FOLDER / name / "config.json").is_file()], list(arguments)


def _front_end(extractor: WindowedFeatureExtractor) -> dict[str, Any]:
    return {name: value for name, value in extractor.to_dict().items() if name not in _WINDOW_FIELDS}


def _cut(audio: DecodedAudio, extractor: WindowedFeatureExtractor) -> tuple[np.ndarray, Iterator[np.ndarray]]:
    """Return the start of each window in seconds, and the windows of the extractor's `track_windows` in blocks."""
    frames, window_frames = extractor.count_frames(audio.length), extractor.cut_frames
    # Random windows, constant-Q transforms and normalisation over the track need the whole track.
    needs_track = extractor.window_policy == "random" or extractor.frame_span(0, 1) is None or frames <= window_frames
    if needs_track or extractor.waveform_normalization != "none":
        features = extractor.track_features(audio.waveform)
        starts = extractor.starts(len(features), features)
        blocks = iter([extractor.cut_features(features)])
    else:
        starts = extractor.starts(frames)
        windows = (_cut_window(audio, extractor, start) for start in starts)
        blocks = (np.stack(block) for block in iter(lambda: list(islice(windows, BLOCK_WINDOWS)), []))
    # The last possible window ends with the song.
    spare = max(0.0, audio.seconds - extractor.window_seconds)
    return starts / max(1, frames - window_frames) * spare, blocks


def _cut_window(audio: DecodedAudio, extractor: WindowedFeatureExtractor, first_frame: int) -> np.ndarray:
    start, stop, skip = extractor.frame_span(first_frame, extractor.cut_frames)
    frames = extractor.transform(audio.read(start, stop))
    return extractor.normalize_window(frames[skip : skip + extractor.cut_frames])


def _shared_stages(models: Sequence[PreTrainedModel]) -> int:
    """Return the number of initial stages with equal weights in all models, which need to be computed only once."""
    encoders = [model.model for model in models]
    first = encoders[0]
    if len(encoders) == 1 or any(type(encoder) is not type(first) for encoder in encoders):
        return 0
    stages = min(encoder.num_stages for encoder in encoders)
    for weights in (encoder.state_dict() for encoder in encoders[1:]):
        differing = (
            first.stage_of(name)
            for name, value in first.state_dict().items()
            if name not in weights or not torch.equal(value, weights[name])
        )
        stages = min([stages, *differing])
    return stages


def _labels(model: PreTrainedModel) -> list[str]:
    return [model.config.id2label[index] for index in range(model.config.num_labels)]


def _vote(model: PreTrainedModel, window_logits: torch.Tensor) -> torch.Tensor:
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
    """Return a table of the predictions, followed by a line for each note and each unusable file."""
    usable = [row for row in rows if not row["problem"]]
    titles = ("file", "genre", "windows", "other genres", "tags" if any(row["tags"] for row in usable) else "")
    lines = [titles] if usable else []
    for row in usable:
        genre, *others = map(_label_and_score, row["genres"])
        tags = map(_label_and_score, row["tags"])
        agreeing = f"{row['agreeing']} of {row['windows']}"
        lines.append((one_line(row["file"]), genre, agreeing, ", ".join(others), ", ".join(tags)))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    text += [one_line(f"{row['file']}: {row['note']}") for row in rows if row["note"]]
    text += [one_line(f"{row['file']}: unusable: {row['problem']}") for row in rows if row["problem"]]
    return "\n".join(text)


def _label_and_score(item: dict[str, Any]) -> str:
    return one_line(f"{item['label']} {item['score']:.2f}")

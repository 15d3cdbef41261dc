"""Acoustic fingerprints: recognising a recording under any name, gain and codec.

Source: Haitsma and Kalker, A highly robust audio fingerprinting system, ISMIR 2002. Each frame becomes a word of 32 bits,
the signs of energy differences between neighbouring bands and frames. It survives re-encoding, gain, filtering and
shifts. Frame and hop (256 and 32 ms: ours) are longer than in the paper: whole tracks are compared, not queries of 3 s.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import librosa
import numpy as np
import torch
from scipy.fft import next_fast_len


FRAME_SECONDS = 0.256
HOP_SECONDS = 0.032
BITS = 32
# Frames whose spectra are in memory at once (33 s); those of a recording of three hours would take 17 GB.
BLOCK_FRAMES = 1024
# The range that small loudspeakers and low-rate codecs preserve (the paper: 300 to 2,000 Hz).
LOWEST_HZ, HIGHEST_HZ = 200.0, 3200.0
# Two recordings are the same if at most this share of their bits differs over the time that they share (the paper: 0.35
# for a false alarm in 10**20 frames of unrelated music; music made of related loops needs a margin).
MOST_BIT_ERRORS = 0.30
# Stricter for an excerpt, which is the best-matching run: unrelated synthetic tracks reached 0.28 over 4 s, never 0.25.
MOST_BIT_ERRORS_OF_EXCERPT = 0.25
LEAST_SHARED_SECONDS = 3.0
# The length of a frame of stored features is unknown, so copies must share this much of the shorter track.
LEAST_SHARE_OF_FEATURES = 1 / 3
# The preserved range as shares of the bins of a stored spectrogram: of 128 mels about 100 to 2,700 Hz.
BAND_SHARES = (1 / 32, 35 / 64)
# A frame of stored levels is silent if more of its 32 differences are exactly zero: rounding makes fewer in music.
MOST_TIES = 8
# A frame counts if this many bands have this share of its energy: the other bands of a bare tone hold only leakage.
LEAST_SHARE, LEAST_BANDS = 1e-7, 8
# Tracks with the same word are all paired, unless it is more frequent: in hum, silence and tones, or in many copies.
MOST_OCCURRENCES = 32


def fingerprint(waveform: np.ndarray, sampling_rate: int) -> np.ndarray:
    """Return the fingerprint of a track [samples] as uint32 [frames]; 0 for frames without sound."""
    # A length without large prime factors: at 22,050 Hz 5,645 samples (5 x 1129) take seven times as long.
    frame = next_fast_len(round(FRAME_SECONDS * sampling_rate), real=True)
    hop = round(HOP_SECONDS * sampling_rate)
    if len(waveform):
        waveform = waveform - waveform.mean()  # next to an offset, the other bands would only hold rounding errors
    if len(waveform) < frame + hop:
        waveform = np.pad(waveform, (0, frame + hop - len(waveform)))
    frequencies = librosa.fft_frequencies(sr=sampling_rate, n_fft=frame)
    edges = np.geomspace(LOWEST_HZ, min(HIGHEST_HZ, sampling_rate / 2.2), BITS + 2)
    starts = np.searchsorted(frequencies, edges)
    window = torch.hann_window(frame)
    blocks = []
    for first in range(0, 1 + (len(waveform) - frame) // hop, BLOCK_FRAMES):
        block = torch.from_numpy(
            np.ascontiguousarray(waveform[first * hop : (first + BLOCK_FRAMES - 1) * hop + frame])
        )
        spectra = torch.stft(block.float(), frame, hop, window=window, center=False, return_complex=True)
        heard = spectra[starts[0] : starts[-1]]
        power = np.cumsum((heard.real.square() + heard.imag.square()).numpy(), axis=0, dtype=np.float64)
        power = np.pad(power, ((1, 0), (0, 0)))[starts - starts[0]]
        blocks.append(np.diff(power, axis=0))
    energy = np.concatenate(blocks, axis=1)  # [BITS + 1, frames]
    between_bands = energy[:-1] - energy[1:]
    bits = between_bands[:, 1:] > between_bands[:, :-1]  # [BITS, frames - 1]
    words = _packed(bits)
    loud = energy.sum(axis=0)[1:]
    words[loud < 1e-6 * max(loud.max(), 1e-12)] = 0
    heard = energy > LEAST_SHARE * energy.sum(axis=0)
    words[heard.sum(axis=0)[1:] < LEAST_BANDS] = 0
    return words


def stored_fingerprint(values: np.ndarray) -> np.ndarray:
    """Return the fingerprint of levels [bins, frames], a spectrogram [frames, bins] or slices [slices, frames, bins].

    It is uint32 [frames], 0 for frames that hardly change and with fewer than 33 bins; empty for other stored features. Any
    scale that grows with loudness will do: neither gain nor the normalisation of the track changes the fingerprint. Only
    fingerprints of the same front end can be compared: the bands are shares of its bins.
    """
    if values.dtype == object or values.ndim not in (2, 3) or not values.size:
        return np.zeros(0, np.uint32)
    is_levels = values.ndim == 2 and values.dtype.kind in "iu"
    features = values.T if is_levels else values.reshape(-1, values.shape[-1])
    frames, bins = features.shape
    lowest, highest = int(BAND_SHARES[0] * bins), int(BAND_SHARES[1] * bins)
    if highest - lowest <= BITS:
        lowest, highest = 0, bins
    if highest - lowest <= BITS or frames < 2:
        return np.zeros(frames, np.uint32)
    edges = np.linspace(lowest, highest, BITS + 1, endpoint=False).astype(np.int64)
    sums = np.add.reduceat(features[:, :highest].T.astype(np.float64), edges, axis=0)
    level = sums / np.diff([*edges, highest])[:, None]  # [BITS + 1, frames]
    change = np.diff(level[:-1] - level[1:], axis=1)  # [BITS, frames - 1]
    words = _packed(change > 0)
    words[(change == 0).sum(axis=0) > MOST_TIES] = 0
    return words


def _packed(bits: np.ndarray) -> np.ndarray:
    """Return bits [BITS, frames] as uint32 [frames]."""
    return (bits.astype(np.uint64) << np.arange(BITS, dtype=np.uint64)[:, None]).sum(axis=0).astype(np.uint32)


@dataclass(frozen=True)
class Match:
    """Two tracks, by their indices, that share a recording, and the share of its bits that differ."""

    first: int
    second: int
    shared_seconds: float
    bit_errors: float


def find_matches(
    fingerprints: Sequence[np.ndarray],
    groups: Sequence[int] | Sequence[str] | None = None,
    *,
    least_share: float = 0.0,
    steps: Sequence[int] | None = None,
) -> list[Match]:
    """Return the pairs of fingerprints that are of the same recording, in part or as a whole.

    Memory and time grow with the number of words, not of pairs. So of a recording with more than `MOST_OCCURRENCES` copies,
    each copy is only paired with the first one (of each other group).

    Args:
        fingerprints: uint32 [frames] of each track.
        groups: If given, only pairs of different groups are returned (the sides of a split).
        least_share: The least share of the shorter track in common, for frames of unknown length.
        steps: Frames from one word of each fingerprint to the next, with 0 between; by default 1.
    """
    steps = [1] * len(fingerprints) if steps is None else steps
    group_of = np.arange(len(fingerprints)) if groups is None else np.unique(groups, return_inverse=True)[1]
    occurrences = _occurrences(fingerprints)
    counts = np.unique(occurrences[:, 0], return_counts=True)[1]
    is_frequent = np.repeat(counts, counts) > MOST_OCCURRENCES
    rare, frequent = occurrences[~is_frequent], occurrences[is_frequent]
    pairs = [_pairs(rare[:-step], rare[step:], group_of) for step in range(1, MOST_OCCURRENCES)]
    # Once for each track, or hum would be paired with itself at all lags.
    frequent = frequent[np.unique(frequent[:, :2], axis=0, return_index=True)[1]]
    labels = (group_of if groups is not None else np.zeros_like(group_of))[frequent[:, 1]]
    for label in np.unique(labels):
        words, first = np.unique(frequent[labels == label, 0], return_index=True)
        nearest = np.searchsorted(words, frequent[:, 0]).clip(max=len(words) - 1)
        pairs.append(_pairs(frequent[labels == label][first[nearest]], frequent, group_of))
    found: dict[tuple[int, int], list[Match]] = {}  # at each lag
    for first, second, lag in np.unique(np.concatenate(pairs), axis=0).tolist():
        if match := _compare(fingerprints, first, second, lag, least_share, steps):
            found.setdefault((first, second), []).append(match)
    # The best match is long and similar.
    return [
        max(matches, key=lambda match: match.shared_seconds * (MOST_BIT_ERRORS - match.bit_errors))
        for matches in found.values()
    ]


def _occurrences(fingerprints: Sequence[np.ndarray]) -> np.ndarray:
    """Return (word, track, frame) of all words except 0, int64 [words, 3], in ascending order."""
    parts = [
        np.stack([words, np.full(len(words), track), np.arange(len(words))], axis=1).astype(np.int64)[words != 0]
        for track, words in enumerate(fingerprints)
    ]
    occurrences = np.concatenate([np.zeros((0, 3), np.int64), *parts])
    return occurrences[np.argsort(occurrences[:, 0], kind="stable")]


def _pairs(one: np.ndarray, other: np.ndarray, group_of: np.ndarray) -> np.ndarray:
    """Return (first, second, lag) of two lists of occurrences, row by row, with equal words in different groups."""
    same = (one[:, 0] == other[:, 0]) & (group_of[one[:, 1]] != group_of[other[:, 1]])
    one, other = one[same], other[same]
    swapped = (one[:, 1] > other[:, 1])[:, None]
    first, second = np.where(swapped, other, one), np.where(swapped, one, other)
    return np.stack([first[:, 1], second[:, 1], first[:, 2] - second[:, 2]], axis=1)


def _compare(
    fingerprints: Sequence[np.ndarray], first: int, second: int, lag: int, least_share: float, steps: Sequence[int]
) -> Match | None:
    """Return the match of two fingerprints at a lag: of all frames that they share, or else of the best run of them.

    The run finds an excerpt within other music, whose errors would hide it in an average over all frames.
    """
    step = max(steps[first], steps[second])
    one, other = fingerprints[first], fingerprints[second]
    one, other = (one[lag:], other) if lag >= 0 else (one, other[-lag:])
    shared = min(len(one), len(other))
    one, other = one[:shared], other[:shared]
    sounding = (one != 0) & (other != 0)
    # Short tracks must match nearly as a whole; in long ones, less than three seconds could be a common sample or jingle.
    shorter = min(len(fingerprints[first]), len(fingerprints[second])) / step
    needed = max(min(LEAST_SHARED_SECONDS / HOP_SECONDS / step, 0.8 * shorter), least_share * shorter, 1)
    if sounding.sum() < needed:
        return None
    errors = np.bitwise_count(one ^ other) / BITS
    if errors[sounding].mean() > MOST_BIT_ERRORS:
        # The segment with the largest sum (Kadane's algorithm): its mean error is below the limit.
        gains = np.where(sounding, MOST_BIT_ERRORS_OF_EXCERPT - errors, 0.0)
        sums = np.concatenate([[0.0], np.cumsum(gains)])
        end = int((sums - np.minimum.accumulate(sums)).argmax())
        begin = int(sums[: end + 1].argmin())
        errors, sounding = errors[begin:end], sounding[begin:end]
        if sounding.sum() < needed:
            return None
    return Match(first, second, float(sounding.sum() * step * HOP_SECONDS), float(errors[sounding].mean()))

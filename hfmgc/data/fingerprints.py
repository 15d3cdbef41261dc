"""Acoustic fingerprints, which recognise a recording whatever its name, gain and codec.

Source: Haitsma and Kalker, A highly robust audio fingerprinting system, ISMIR 2002. Each frame becomes a 32-bit word: the
signs of the energy differences between neighbouring bands and frames. Words survive re-encoding, gain changes, filtering
and shifts. Our frames and hops (256 and 32 ms) are longer than the paper's, because we compare whole tracks, not queries
of 3 s.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.fft import next_fast_len


FRAME_SECONDS = 0.256
HOP_SECONDS = 0.032
BITS = 32
# Frames per block of spectra (33 s). The spectra of a whole three-hour recording would take 17 GB.
BLOCK_FRAMES = 1024
# Frequencies that small loudspeakers and low-rate codecs preserve (in the paper 300 to 2,000 Hz).
LOWEST_HZ, HIGHEST_HZ = 200.0, 3200.0
# Two recordings match if at most this share of their bits differs in the overlap. The paper allows 0.35 (one false alarm
# in 10**20 frames of unrelated music); tracks made of related loops need a margin.
MAX_BIT_ERRORS = 0.30
# An excerpt is the best-matching run, so its limit is stricter: over 4 s, unrelated synthetic tracks had at least 0.28.
MAX_BIT_ERRORS_OF_EXCERPT = 0.25
MIN_SHARED_SECONDS = 3.0
# The duration of a frame of stored features is unknown, so copies must share this much of the shorter track.
MIN_SHARE_OF_FEATURES = 1 / 3
# The preserved frequencies as shares of the bins of a stored spectrogram (128 mel bins: about 100 to 2,700 Hz).
BAND_SHARES = (1 / 32, 35 / 64)
# A frame of stored levels with more zeros among its 32 differences is silent: in music, rounding causes fewer.
MAX_TIES = 8
# A frame gets a word only if at least `MIN_BANDS` bands have this share of its energy: beside a pure tone, bands hold only
# leakage.
MIN_ENERGY_SHARE, MIN_BANDS = 1e-7, 8
# All tracks that share a word are compared, unless the word is more frequent (hum, silence, tones, many copies).
MAX_OCCURRENCES = 32


def fingerprint(waveform: np.ndarray, sampling_rate: int) -> np.ndarray:
    """Return the fingerprint of a waveform [samples] as uint32 [frames]; silent frames are 0."""
    # The FFT is slow for lengths with large prime factors: 5,645 = 5 x 1129 samples (22,050 Hz) take seven times as long.
    frame = next_fast_len(round(FRAME_SECONDS * sampling_rate), real=True)
    hop = round(HOP_SECONDS * sampling_rate)
    if len(waveform):  # a large offset would leave only rounding errors in the bands
        waveform = waveform - waveform.mean()
    if len(waveform) < frame + hop:
        waveform = np.pad(waveform, (0, frame + hop - len(waveform)))
    frequencies = np.fft.rfftfreq(frame, 1 / sampling_rate)
    edges = np.geomspace(LOWEST_HZ, min(HIGHEST_HZ, sampling_rate / 2.2), BITS + 2)
    starts = np.searchsorted(frequencies, edges)
    window = torch.hann_window(frame)
    blocks = []
    for first in range(0, 1 + (len(waveform) - frame) // hop, BLOCK_FRAMES):
        block = torch.from_numpy(
            np.ascontiguousarray(waveform[first * hop : (first + BLOCK_FRAMES - 1) * hop + frame])
        )
        spectra = torch.stft(block.float(), frame, hop, window=window, center=False, return_complex=True)
        bands = spectra[starts[0] : starts[-1]]
        power = np.cumsum((bands.real.square() + bands.imag.square()).numpy(), axis=0, dtype=np.float64)
        power = np.pad(power, ((1, 0), (0, 0)))[starts - starts[0]]
        blocks.append(np.diff(power, axis=0))
    energy = np.concatenate(blocks, axis=1)  # [BITS + 1, frames]
    between_bands = energy[:-1] - energy[1:]
    bits = between_bands[:, 1:] > between_bands[:, :-1]  # [BITS, frames - 1]
    words = _pack_bits(bits)
    total = energy.sum(axis=0)
    words[total[1:] < 1e-6 * max(total[1:].max(), 1e-12)] = 0
    is_audible = energy > MIN_ENERGY_SHARE * total
    words[is_audible.sum(axis=0)[1:] < MIN_BANDS] = 0
    return words


def stored_fingerprint(values: np.ndarray) -> np.ndarray:
    """Return the fingerprint of stored features as uint32 [frames]; empty for values that are not a spectrogram.

    `values` are levels [bins, frames], a spectrogram [frames, bins] or slices [slices, frames, bins], on any scale that
    grows with loudness: gain and normalisation do not change the fingerprint. Frames that hardly change are 0, and so are
    all frames of fewer than 33 bins. The bands are shares of the bins, so only fingerprints of the same front end can be
    compared.
    """
    if values.ndim not in (2, 3) or not values.size:
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
    words = _pack_bits(change > 0)
    words[(change == 0).sum(axis=0) > MAX_TIES] = 0
    return words


def _pack_bits(bits: np.ndarray) -> np.ndarray:
    """Return bits [BITS, frames] as uint32 [frames]; the first bit is the lowest."""
    packed = np.packbits(bits, axis=0, bitorder="little")  # [BITS / 8, frames]
    return np.ascontiguousarray(packed.T).view("<u4")[:, 0].astype(np.uint32)


@dataclass(frozen=True)
class Match:
    """Two tracks that share a recording."""

    first: int  # index of a track
    second: int
    shared_seconds: float
    bit_errors: float  # share of the bits that differ


def find_matches(
    fingerprints: Sequence[np.ndarray],
    groups: Sequence[int] | Sequence[str] | None = None,
    *,
    min_share: float = 0.0,
    steps: Sequence[int] | None = None,
) -> list[Match]:
    """Return the pairs of tracks that share a recording, as a whole or in part.

    Memory and time grow with the number of words, not of pairs: if a recording has more than `MAX_OCCURRENCES` copies, each
    copy is compared only with the first copy (of each group).

    Args:
        fingerprints: uint32 [frames] of each track.
        groups: Group of each track, such as its side of a split; only pairs of different groups are returned.
        min_share: Share of the shorter track that must match; for frames of unknown duration.
        steps: Distance in frames between the stored words of each fingerprint, 1 by default; the frames between are 0.
    """
    steps = [1] * len(fingerprints) if steps is None else steps
    group_of = np.arange(len(fingerprints)) if groups is None else np.unique(groups, return_inverse=True)[1]
    occurrences = _occurrences(fingerprints)
    counts = np.unique(occurrences[:, 0], return_counts=True)[1]
    is_frequent = np.repeat(counts, counts) > MAX_OCCURRENCES
    rare, frequent = occurrences[~is_frequent], occurrences[is_frequent]
    pairs = [_pair(rare[:-step], rare[step:], group_of) for step in range(1, MAX_OCCURRENCES)]
    # Keep the first occurrence in each track: two tracks with the same hum would match at every lag.
    frequent = frequent[np.unique(frequent[:, :2], axis=0, return_index=True)[1]]
    labels = (group_of if groups is not None else np.zeros_like(group_of))[frequent[:, 1]]
    for label in np.unique(labels):
        words, first = np.unique(frequent[labels == label, 0], return_index=True)
        nearest = np.searchsorted(words, frequent[:, 0]).clip(max=len(words) - 1)
        pairs.append(_pair(frequent[labels == label][first[nearest]], frequent, group_of))
    matches_of: dict[tuple[int, int], list[Match]] = {}  # one match for each lag
    for first, second, lag in np.unique(np.concatenate(pairs), axis=0).tolist():
        if match := _compare(fingerprints, first, second, lag, min_share, steps):
            matches_of.setdefault((first, second), []).append(match)
    # Prefer long matches with few errors.
    return [
        max(matches, key=lambda match: match.shared_seconds * (MAX_BIT_ERRORS - match.bit_errors))
        for matches in matches_of.values()
    ]


def _occurrences(fingerprints: Sequence[np.ndarray]) -> np.ndarray:
    """Return (word, track, frame) of all words except 0, int64 [words, 3], in the order of the words."""
    parts = [
        np.stack([words, np.full(len(words), track), np.arange(len(words))], axis=1).astype(np.int64)[words != 0]
        for track, words in enumerate(fingerprints)
    ]
    occurrences = np.concatenate([np.zeros((0, 3), np.int64), *parts])
    return occurrences[np.argsort(occurrences[:, 0], kind="stable")]


def _pair(left: np.ndarray, right: np.ndarray, group_of: np.ndarray) -> np.ndarray:
    """Return (first track, second track, lag) of the rows of occurrences with equal words and different groups."""
    is_pair = (left[:, 0] == right[:, 0]) & (group_of[left[:, 1]] != group_of[right[:, 1]])
    left, right = left[is_pair], right[is_pair]
    is_swapped = (left[:, 1] > right[:, 1])[:, None]
    first, second = np.where(is_swapped, right, left), np.where(is_swapped, left, right)
    return np.stack([first[:, 1], second[:, 1], first[:, 2] - second[:, 2]], axis=1)


def _compare(
    fingerprints: Sequence[np.ndarray], first: int, second: int, lag: int, min_share: float, steps: Sequence[int]
) -> Match | None:
    """Return the match of two fingerprints at a lag, over their whole overlap or else over its best run.

    The run finds an excerpt inside other music, where errors outside the excerpt dominate the average of the overlap.
    """
    step = max(steps[first], steps[second])
    left, right = fingerprints[first], fingerprints[second]
    left, right = (left[lag:], right) if lag >= 0 else (left, right[-lag:])
    overlap = min(len(left), len(right))
    left, right = left[:overlap], right[:overlap]
    is_audible = (left != 0) & (right != 0)
    # Short tracks must match nearly as a whole. In long tracks, less than three seconds may be a common sample or jingle.
    shorter = min(len(fingerprints[first]), len(fingerprints[second])) / step
    needed = max(min(MIN_SHARED_SECONDS / HOP_SECONDS / step, 0.8 * shorter), min_share * shorter, 1)
    if is_audible.sum() < needed:
        return None
    errors = np.bitwise_count(left ^ right) / BITS
    if errors[is_audible].mean() > MAX_BIT_ERRORS:
        # The mean error of the segment with the largest sum of gains (Kadane's algorithm) is below the limit.
        gains = np.where(is_audible, MAX_BIT_ERRORS_OF_EXCERPT - errors, 0.0)
        sums = np.concatenate([[0.0], np.cumsum(gains)])
        end = int((sums - np.minimum.accumulate(sums)).argmax())
        begin = int(sums[: end + 1].argmin())
        errors, is_audible = errors[begin:end], is_audible[begin:end]
        if is_audible.sum() < needed:
            return None
    return Match(first, second, float(is_audible.sum() * step * HOP_SECONDS), float(errors[is_audible].mean()))

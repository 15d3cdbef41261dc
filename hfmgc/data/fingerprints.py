"""Which recordings are the same, whatever their name, gain or codec.

The acoustic fingerprint of Haitsma and Kalker (A highly robust audio fingerprinting system, ISMIR 2002): one word of 32
bits for each frame, of the signs of energy differences between neighbouring bands and frames. It survives re-encoding,
gain, filtering and shifts. Frame and hop are longer than in the paper (256 and 32 ms: ours), for corpora, not for queries
of three seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import librosa
import numpy as np


FRAME_SECONDS = 0.256
HOP_SECONDS = 0.032
BITS = 32
# Bands from where small loudspeakers begin to where low-rate codecs still keep detail (the paper: 300 to 2,000 Hz).
LOWEST_HZ, HIGHEST_HZ = 200.0, 3200.0
# Two recordings are the same where fewer of their bits differ than this, over all of the time that they share (the
# paper: 0.35 for a false alarm in 10**20 frames of unrelated music; related loops need a margin).
MOST_BIT_ERRORS = 0.30
LEAST_SHARED_SECONDS = 3.0
# Of a bare tone only few bands reach this share of a frame's energy; the others' signs are the window's, not the music's.
LEAST_SHARE, LEAST_BANDS = 1e-7, 8
# Words that occur more often belong to hum, silence or a tone, and tell nothing.
MOST_OCCURRENCES = 32
# Words that agree at one lag before a pair is looked at closely (three lose short excerpts in a low-rate codec).
LEAST_AGREEING_WORDS = 2


def fingerprint(waveform: np.ndarray, sampling_rate: int) -> np.ndarray:
    """Return the fingerprint of a track [samples] as uint32 [frames]; 0 for frames without sound."""
    frame, hop = round(FRAME_SECONDS * sampling_rate), round(HOP_SECONDS * sampling_rate)
    if len(waveform) < frame + hop:
        waveform = np.pad(waveform, (0, frame + hop - len(waveform)))
    magnitudes = np.abs(librosa.stft(waveform, n_fft=frame, hop_length=hop, center=False, window="hann"))
    frequencies = librosa.fft_frequencies(sr=sampling_rate, n_fft=frame)
    edges = np.geomspace(LOWEST_HZ, min(HIGHEST_HZ, sampling_rate / 2.2), BITS + 2)
    starts = np.searchsorted(frequencies, edges)
    power = np.concatenate([np.zeros((1, magnitudes.shape[1])), np.cumsum(magnitudes**2, axis=0, dtype=np.float64)])
    energy = power[starts[1:]] - power[starts[:-1]]  # [BITS + 1, frames]
    between_bands = energy[:-1] - energy[1:]
    bits = between_bands[:, 1:] > between_bands[:, :-1]  # [BITS, frames - 1]
    words = (bits.astype(np.uint64) << np.arange(BITS, dtype=np.uint64)[:, None]).sum(axis=0).astype(np.uint32)
    loud = energy.sum(axis=0)[1:]
    words[loud < 1e-6 * max(loud.max(), 1e-12)] = 0
    heard = energy > LEAST_SHARE * energy.sum(axis=0)
    words[heard.sum(axis=0)[1:] < LEAST_BANDS] = 0
    return words


@dataclass(frozen=True)
class Match:
    """Two recordings that are the same over the time that they share."""

    first: int
    second: int
    shared_seconds: float
    bit_errors: float


def find_matches(fingerprints: Sequence[np.ndarray], groups: Sequence[int] | None = None) -> list[Match]:
    """Return the pairs of fingerprints that belong to the same recording.

    Args:
        fingerprints: uint32 [frames] of each track.
        groups: Where given, only pairs of different groups are looked for (the sides of a split).

    Memory and time grow with the number of words, not with the number of pairs.
    """
    matches = {}
    for first, second, lag in _candidates(fingerprints, groups):
        match = _compare(fingerprints, first, second, lag)
        known = matches.get((first, second))
        if match is not None and (known is None or match.bit_errors < known.bit_errors):
            matches[first, second] = match
    return sorted(matches.values(), key=lambda match: (match.first, match.second))


def _candidates(fingerprints: Sequence[np.ndarray], groups: Sequence[int] | None) -> list[tuple[int, int, int]]:
    """Return (first, second, lag) of pairs in which enough words agree, by an inverted index of all words."""
    words = np.concatenate([np.asarray(item, dtype=np.uint32) for item in fingerprints] or [np.zeros(0, np.uint32)])
    tracks = np.repeat(np.arange(len(fingerprints)), [len(item) for item in fingerprints])
    frames = np.concatenate([np.arange(len(item)) for item in fingerprints] or [np.zeros(0, np.int64)])
    kept = words != 0
    words, tracks, frames = words[kept], tracks[kept], frames[kept]
    order = np.argsort(words, kind="stable")
    words, tracks, frames = words[order], tracks[order], frames[order]
    counts = np.unique(words, return_counts=True)[1]
    rare = np.repeat(counts, counts) <= MOST_OCCURRENCES
    side = np.asarray(groups)[tracks] if groups is not None else None
    found = []
    for step in range(1, MOST_OCCURRENCES):
        same = rare[:-step] & (words[:-step] == words[step:]) & (tracks[:-step] != tracks[step:])
        if side is not None:
            same &= side[:-step] != side[step:]
        one = np.flatnonzero(same)
        other = one + step
        swap = tracks[one] > tracks[other]
        first, second = np.where(swap, other, one), np.where(swap, one, other)
        found.append(np.stack([tracks[first], tracks[second], frames[first] - frames[second]], axis=1))
    triples, agreeing = np.unique(np.concatenate(found), axis=0, return_counts=True)
    return [tuple(map(int, triple)) for triple in triples[agreeing >= LEAST_AGREEING_WORDS]]


def _compare(fingerprints: Sequence[np.ndarray], first: int, second: int, lag: int) -> Match | None:
    """Compare two fingerprints over all frames that they share at a lag; None where they are not the same."""
    one, other = fingerprints[first], fingerprints[second]
    one, other = (one[lag:], other) if lag >= 0 else (one, other[-lag:])
    shared = min(len(one), len(other))
    one, other = one[:shared], other[:shared]
    sounding = (one != 0) & (other != 0)
    # A short track must be shared as a whole; in a long one a few seconds could be a common sample or jingle.
    needed = min(LEAST_SHARED_SECONDS / HOP_SECONDS, 0.8 * min(len(fingerprints[first]), len(fingerprints[second])))
    if sounding.sum() < max(needed, 1):
        return None
    errors = np.bitwise_count(one[sounding] ^ other[sounding]).mean() / BITS
    if errors > MOST_BIT_ERRORS:
        return None
    return Match(first, second, float(sounding.sum() * HOP_SECONDS), float(errors))

"""A column type of `datasets` for decoded audio: 16 bits per sample on disk, float32 in memory."""

import warnings
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from datasets.features.features import register_feature

from .audio import FULL_SCALE


@dataclass(frozen=True)
class Waveform:
    """Column type of mono waveforms, written as int16 and read as float32 [samples] in [-1, 1].

    `decode_audio` returns multiples of 1 / 32768, which are stored exactly. Other floats are rounded and clipped at full
    scale. `datasets` can load saved tables with this column after this module has been imported.
    """

    dtype: ClassVar[str] = "float32"
    pa_type: ClassVar[pa.DataType] = pa.large_list(pa.int16())
    _type: str = field(default="Waveform", init=False, repr=False)

    def __call__(self) -> pa.DataType:
        """Return the Arrow type of the column."""
        return self.pa_type

    def cast_storage(self, storage: pa.Array) -> pa.Array:
        """Return an array of lists of samples in the type of the column."""
        samples = storage.flatten().to_numpy(zero_copy_only=False)
        if samples.dtype.kind == "f":
            samples = np.clip(np.round(samples * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
        lengths = storage.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
        offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), pa.array(samples, pa.int16()))

    def decode_example(self, value: Any, token_per_repo_id: dict | None = None) -> np.ndarray:
        """Return the samples as float32."""
        return np.asarray(value, dtype=np.float32) / np.float32(FULL_SCALE)


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # "register_feature is experimental"
    register_feature(Waveform, "Waveform")

WAVEFORM = Waveform()

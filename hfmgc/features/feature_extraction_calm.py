"""Front end for codec language models: the first seconds of a track, as a waveform at the codec's sampling rate."""

from typing import Any

from .feature_extraction_audio_encoder import AudioEncoderFeatureExtractor


class CALMFeatureExtractor(AudioEncoderFeatureExtractor):
    r"""One window of 25 s from the start of each track, at 32 kHz, for [`CALMForAudioClassification`].

    Args:
        encoder_extractor (`dict`, *optional*): EnCodec's feature extractor; the one of MusicGen's codec by default.
        window_seconds (`float`, *optional*, defaults to 25.0): Length of the window.
        window_policy (`str`, *optional*, defaults to `"first"`): See [`WindowedFeatureExtractor`].
        kwargs: See [`AudioEncoderFeatureExtractor`].
    """

    default_extractor: dict[str, Any] = {"feature_extractor_type": "EncodecFeatureExtractor", "sampling_rate": 32000}  # noqa: RUF012
    default_seconds = 25.0

    def __init__(self, *args, window_policy: str = "first", **kwargs):
        super().__init__(*args, window_policy=window_policy, **kwargs)

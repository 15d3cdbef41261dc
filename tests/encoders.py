"""Tiny encoders of transformers with random weights, saved as their authors publish them."""

from pathlib import Path

import torch
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    AutoConfig,
    AutoModel,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    EncodecFeatureExtractor,
    MusicgenConfig,
    MusicgenForConditionalGeneration,
    PreTrainedConfig,
    Wav2Vec2FeatureExtractor,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)


# 40 samples a frame.
WAVEFORM = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": [8, 8],
    "conv_kernel": [10, 8],
    "conv_stride": [8, 5],
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "feat_proj_dropout": 0.0,
    "activation_dropout": 0.0,
    "layerdrop": 0.0,
    "apply_spec_augment": False,
    "mask_time_prob": 0.0,
}
WAV2VEC2 = {"model_type": "wav2vec2", **WAVEFORM}
WHISPER = {
    "d_model": 16, "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "num_mel_bins": 80, "max_source_positions": 50, "vocab_size": 20,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 3,
}  # fmt: skip
CLAP = {
    "audio_config": {
        "patch_embeds_hidden_size": 8, "hidden_size": 16, "depths": [1, 1], "num_attention_heads": [2, 2],
        "num_hidden_layers": 2, "spec_size": 64, "num_mel_bins": 16, "window_size": 4, "projection_dim": 8,
    },
    "text_config": {
        "vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8,
        "projection_dim": 8,
    },
    "projection_dim": 8,
}  # fmt: skip
AST = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "max_length": 64,
    "frequency_stride": 16, "time_stride": 16,
}  # fmt: skip

MUSICGEN = {
    # 400 frames a second, two codebooks.
    "audio_encoder": {
        "model_type": "encodec", "sampling_rate": 8000, "num_filters": 4, "upsampling_ratios": [5, 4], "hidden_size": 8,
        "codebook_size": 64, "target_bandwidths": [4.8], "num_lstm_layers": 1,
    },
    "decoder": {
        "vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 32,
        "num_codebooks": 2, "pad_token_id": None, "bos_token_id": None, "max_position_embeddings": 64, "dropout": 0.0,
    },
    "text_encoder": {
        "model_type": "t5", "vocab_size": 8, "d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2,
    },
}  # fmt: skip


@torch.no_grad()
def fill_codebooks(codec) -> None:
    """Fill a codec's codebooks with what its encoder makes of noise; new ones are zeros, and every sound has the same tokens."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(4, 1, 1000, generator=generator) + 2 * torch.randn(4, 1, 1, generator=generator)
    residual = codec.encoder(noise)
    for layer in codec.quantizer.layers:
        vectors = residual.transpose(1, 2).flatten(0, 1)
        chosen = torch.randperm(len(vectors), generator=generator)[: codec.config.codebook_size]
        layer.codebook.embed.copy_(vectors[chosen])
        residual = residual - layer.decode(layer.encode(residual))


def write_musicgen(folder: Path) -> Path:
    """Save a tiny MusicGen with its codec."""
    torch.manual_seed(0)
    model = MusicgenForConditionalGeneration(MusicgenConfig(**MUSICGEN))
    fill_codebooks(model.audio_encoder)
    model.save_pretrained(folder)
    EncodecFeatureExtractor(sampling_rate=8000).save_pretrained(folder)
    return folder


def write_encoder(folder: Path, kind: str) -> Path:
    """Save a tiny `wav2vec2`, `hubert`, `wavlm`, `whisper`, `clap` or `audio-spectrogram-transformer`; windows are 1 s at most."""
    torch.manual_seed(0)
    if kind == "whisper":
        model = WhisperForConditionalGeneration(WhisperConfig(**WHISPER))
        extractor = WhisperFeatureExtractor(chunk_length=1)
    elif kind == "clap":
        model = ClapModel(ClapConfig(**CLAP))
        extractor = ClapFeatureExtractor(
            feature_size=16, sampling_rate=16000, max_length_s=1, truncation="rand_trunc", frequency_max=8000
        )
    elif kind == "audio-spectrogram-transformer":
        model, extractor = ASTForAudioClassification(ASTConfig(**AST)), ASTFeatureExtractor(max_length=64)
    else:
        config: PreTrainedConfig = AutoConfig.for_model(kind, **WAVEFORM)
        model, extractor = AutoModel.from_config(config), Wav2Vec2FeatureExtractor()
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    return folder

"""`hfmgc embed`: the embeddings are the encoder's, whatever they are computed from, and an interrupted command resumes."""

import json
import os
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from encoders import WAV2VEC2
from transformers import AutoModel

from hfmgc.cli import main
from hfmgc.data.audio import load_audio
from hfmgc.data.sources import open_source
from hfmgc.data.sources.folder import Folder
from hfmgc.errors import DataError
from hfmgc.evaluation.checkpoints import load_checkpoint
from hfmgc.features.feature_extraction_audio_encoder import AudioEncoderFeatureExtractor
from hfmgc.inference import embed
from hfmgc.models.configuration_audio_encoder import AudioEncoderConfig
from hfmgc.models.modeling_ast import HfmgcASTModel
from hfmgc.models.modeling_audio_encoder import AudioEncoderModel


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(embed, "TRACKS_PER_PART", 2)


@pytest.fixture
def checkpoint(tiny_checkpoint):
    return tiny_checkpoint()


@pytest.fixture
def music(music_folder):
    folder = music_folder(("blues", "pop"), tracks=2, seconds=2.0)
    (folder / "pop" / "broken.wav").write_bytes(b"no sound")
    return folder


def embedded(data, output, checkpoint, *more) -> dict[str, list]:
    assert main(["embed", str(data), str(output), "--checkpoint", str(checkpoint), *more]) == 0
    assert not output.with_name(f"{output.name}.parts").exists()
    return pq.read_table(output).to_pydict()


@torch.no_grad()
def test_rows_are_the_encoders_embeddings_of_tracks_and_of_their_windows(checkpoint, music, tmp_path, capsys):
    tracks = embedded(music, tmp_path / "tracks.parquet", checkpoint, "--batch_size", "3")
    windows = embedded(music, tmp_path / "windows.parquet", checkpoint, "--windows")
    assert tracks["genre"] == ["blues", "blues", "pop", "pop"]
    assert capsys.readouterr().out.count("skipped: pop/broken") == 2
    encoder = AutoModel.from_pretrained(checkpoint)
    _, extractor = load_checkpoint(str(checkpoint))
    for track_id, embedding in zip(tracks["track_id"], tracks["embedding"], strict=True):
        waveform = load_audio(music / track_id, extractor.sampling_rate)
        expected = encoder(**extractor(waveform, sampling_rate=extractor.sampling_rate, return_tensors="pt"))
        np.testing.assert_allclose(embedding, expected.pooler_output[0], atol=1e-5)
        rows = [row for row, other in enumerate(windows["track_id"]) if other == track_id]
        assert len(rows) > 1
        assert [windows["window"][row] for row in rows] == list(range(len(rows)))
        np.testing.assert_allclose(
            [windows["embedding"][row] for row in rows], expected.window_embeddings[0], atol=1e-5
        )


def test_classical_baselines_read_the_embeddings_as_a_table(checkpoint, music, tmp_path):
    file = tmp_path / "embeddings.parquet"
    rows = embedded(music, file, checkpoint)
    source = open_source("table", {"file": str(file)})
    tracks = source.tracks()
    assert source.genres() == ["blues", "pop"]
    for name in ("track_id", "genre"):
        assert tracks[name][:] == rows[name]
    np.testing.assert_array_equal(np.concatenate(tracks["features"][:]), np.float32(rows["embedding"]))
    embedded(music, tmp_path / "windows.parquet", checkpoint, "--windows")
    with pytest.raises(DataError, match=r"windows\.parquet.*--windows"):
        open_source("table", {"file": str(tmp_path / "windows.parquet")}).tracks()


def test_all_genres_of_a_track_survive_embedding(checkpoint, music, tmp_path):
    first = next((music / "blues").glob("*.wav"))
    (music / "list.csv").write_text(f"path,label\n{first},blues|pop\n")
    options = ("--data_options", "{label_separator: '|'}")
    embedded(music / "list.csv", tmp_path / "embeddings.parquet", checkpoint, *options)
    source = open_source("table", {"file": str(tmp_path / "embeddings.parquet")})
    assert source.tracks()["genres"][:] == [["blues", "pop"]]
    assert source.genres() == ["blues", "pop"]


def test_an_interrupted_command_resumes_with_the_rest(checkpoint, music, tmp_path, monkeypatch, capsys):
    whole = embedded(music, tmp_path / "whole.parquet", checkpoint)
    computed, forward = [], HfmgcASTModel.embed_windows

    def counted(self, input_values, **kwargs):
        computed.append(len(input_values))
        if len(computed) == 2:
            raise KeyboardInterrupt
        return forward(self, input_values, **kwargs)

    monkeypatch.setattr(HfmgcASTModel, "embed_windows", counted)
    output = tmp_path / "again.parquet"
    arguments = ["embed", str(music), str(output), "--checkpoint", str(checkpoint), "--batch_size", "1000", "--json"]
    assert main(arguments) != 0
    assert not output.exists()
    capsys.readouterr()
    assert main(arguments) == 0
    assert len(computed) == 4  # three parts, of which the interrupted one is computed twice
    assert json.loads(capsys.readouterr().out)["rows"] == 4
    assert pq.read_table(output).to_pydict() == whole
    assert main(arguments) == 0
    assert len(computed) == 4


def test_parts_of_another_checkpoint_are_not_used(tiny_checkpoint, music, tmp_path, monkeypatch):
    checkpoints = [tiny_checkpoint(name="one"), tiny_checkpoint(name="other")]
    model, _ = load_checkpoint(str(checkpoints[1]))
    with torch.no_grad():
        model.model.pooled_layernorm.bias += 1
    model.save_pretrained(checkpoints[1])
    expected = embedded(music, tmp_path / "expected.parquet", checkpoints[1])
    output = tmp_path / "output.parquet"
    with monkeypatch.context() as patched:
        patched.setattr(embed, "_join", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert main(["embed", str(music), str(output), "--checkpoint", str(checkpoints[0])]) != 0
    assert embedded(music, output, checkpoints[1]) == expected


def test_an_output_that_is_no_parquet_file_is_refused(checkpoint, music, tmp_path, capsys):
    output = tmp_path / "output.csv"
    assert main(["embed", str(music), str(output), "--checkpoint", str(checkpoint)]) == 1
    assert str(output) in capsys.readouterr().err
    assert not output.exists()


def test_another_result_is_not_overwritten(checkpoint, music, tmp_path, capsys):
    output = tmp_path / "output.parquet"
    embedded(music, output, checkpoint)
    before = output.read_bytes()
    assert main(["embed", str(music), str(output), "--checkpoint", str(checkpoint), "--windows"]) == 1
    assert str(output) in capsys.readouterr().err
    assert output.read_bytes() == before


def test_another_text_about_the_data_is_no_other_result(checkpoint, music, tmp_path, monkeypatch):
    output = tmp_path / "output.parquet"
    embedded(music, output, checkpoint)
    monkeypatch.setattr(Folder, "card", replace(Folder.card, citation="Other words.", licence="other"))
    embedded(music, output, checkpoint)
    assert len(pq.read_table(output)) == 4


@pytest.mark.parametrize("more", [[], ["--windows"]])
def test_stored_features_give_the_embeddings_of_the_audio(checkpoint, music, tmp_path, more):
    front_end = "{max_length: 64}"
    assert main(["extract", str(music), str(tmp_path / "features"), "--front_end", front_end]) == 0
    expected = embedded(music, tmp_path / "audio.parquet", checkpoint, *more)
    stored = embedded(tmp_path / "features", tmp_path / "stored.parquet", checkpoint, *more)
    assert stored["track_id"] == expected["track_id"]
    np.testing.assert_allclose(stored["embedding"], expected["embedding"], atol=1e-4)


def test_an_encoder_saved_alone_embeds_as_its_classifier(checkpoint, music, tmp_path):
    model, extractor = load_checkpoint(str(checkpoint))
    model.model.save_pretrained(tmp_path / "encoder")
    extractor.save_pretrained(tmp_path / "encoder")
    expected = embedded(music, tmp_path / "classifier.parquet", checkpoint)
    assert embedded(music, tmp_path / "encoder.parquet", tmp_path / "encoder") == expected


def test_another_layer_and_other_songs_of_the_same_names_are_other_content(music, tmp_path):
    torch.manual_seed(0)
    model = AudioEncoderModel(AudioEncoderConfig(backbone_config=WAV2VEC2, hidden_layer=1))
    for layer in (1, 2):
        model.select_layer(layer)
        model.save_pretrained(tmp_path / str(layer))
        AudioEncoderFeatureExtractor(window_seconds=0.25).save_pretrained(tmp_path / str(layer))
    output = tmp_path / "songs.parquet"
    embedded(music, output, tmp_path / "1")
    content = output.read_bytes()
    assert main(["embed", str(music), str(output), "--checkpoint", str(tmp_path / "2")]) == 1
    assert main(["similar", str(music / "pop" / "pop.000.wav"), str(output), "--checkpoint", str(tmp_path / "2")]) == 1
    os.utime(music / "pop" / "pop.000.wav", (1, 1))
    assert main(["embed", str(music), str(output), "--checkpoint", str(tmp_path / "1")]) == 1
    assert output.read_bytes() == content

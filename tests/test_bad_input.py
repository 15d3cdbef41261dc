"""What a user does wrong ends in one line that names the thing and the way out, and in exit code 1."""

import json
from pathlib import Path

import numpy as np
import soundfile
from conftest import write_music
from forked import run_forked

import hfmgc.cli
from recipes import FINETUNE_AST, finetune_here, tiny_settings, write_config


def _fails(result) -> str:
    """Return the one line that a failed command ends with."""
    assert result.returncode == 1, (result.returncode, result.stderr)
    assert "Traceback" not in result.stderr, result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    return last


def _run(tmp_path, data, *overrides, **more) -> str:
    config = write_config(tmp_path / "run.yaml", tiny_settings(data, tmp_path / "out", **more))
    return _fails(finetune_here(config, *overrides))


def test_missing_folder(tmp_path):
    assert "nowhere" in _run(tmp_path, tmp_path / "nowhere")


def test_paths_of_thousands_of_characters(tmp_path, capsys):
    def line(*arguments: str) -> str:
        assert hfmgc.cli.main(["check", *arguments]) == 1
        return capsys.readouterr().err.strip().splitlines()[-1]

    long = "m" * 5000
    for said in (line(long), line(long + ".csv"), line("hub", "--data_options", f"{{repository: {long}}}")):
        assert said.startswith("error: data")
        assert len(said) < 200
    assert "data_options: folder" in line("gtzan", "--data_options", f"{{folder: {long}}}")
    assert hfmgc.cli.main(["evaluate", long, "--data", "synthetic"]) == 1
    assert capsys.readouterr().err.startswith("error: checkpoint 'mmm")
    assert "data 'mmm" in _run(tmp_path, long)
    assert "output_dir" in _run(tmp_path, "synthetic", "--output_dir", long)
    assert "pretrained_backbone" in _run(tmp_path, "synthetic", pretrained_backbone="/" + long, model={})


def test_no_command_writes_into_its_data_or_over_a_run(tmp_path, capsys):
    music = write_music(tmp_path / "music", ("blues", "pop"), tracks=2, seconds=1)
    before = sorted(music.rglob("*"))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.yaml").touch()
    for command in (
        ("extract", music, music / "features"),
        ("embed", music, music / "embeddings.parquet", "--checkpoint", tmp_path),
        ("evaluate", tmp_path, "--data", music, "--output", tmp_path / "run"),
        ("check", music, "--write_exclusions", tmp_path / "bad.txt"),
    ):
        assert hfmgc.cli.main([str(word) for word in command]) == 1
        assert capsys.readouterr().err.startswith(("error: output ", "error: write_exclusions "))
    assert sorted(music.rglob("*")) == before
    assert sorted(tmp_path.iterdir()) == [music, tmp_path / "run"]


def test_no_data_and_a_run_below_the_current_folder_are_not_confused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "data is empty" in _run(tmp_path, "")


def test_a_preset_beside_the_fields_of_another_front_end(tmp_path):
    config = Path(__file__).parents[1] / "recipes" / "configs" / "folder.yaml"
    more = ("--data", tmp_path / "nowhere", "--output_dir", tmp_path / "out")
    line = _fails(finetune_here(config, "--front_end.preset", "gtzan_decimated", *more))
    assert "front_end: " in line
    assert "'max_length'" in line
    assert "nowhere" in _fails(finetune_here(config, "--front_end", "{preset: gtzan_decimated}", *more))


def test_empty_folder(tmp_path):
    (tmp_path / "music").mkdir()
    assert "no subfolders" in _run(tmp_path, tmp_path / "music")


def test_genre_with_one_track(tmp_path):
    music = write_music(tmp_path / "music", {"blues": 4, "polka": 1}, seconds=1)
    line = _run(tmp_path, music)
    assert "genre 'polka' has too few usable tracks (1)" in line


def test_corpus_without_a_usable_file(tmp_path):
    for genre in ("blues", "pop"):
        (tmp_path / "music" / genre).mkdir(parents=True)
        soundfile.write(tmp_path / "music" / genre / "a.wav", np.zeros(8000), 16000)
    line = _run(tmp_path, tmp_path / "music")
    assert "folder (music): no track can be used" in line
    assert "blues/a.wav" in line


def test_impossible_values_name_their_field(tmp_path):
    music = write_music(tmp_path / "music", ("blues", "pop"), tracks=3, seconds=1)
    assert "exclude each other" in _run(tmp_path, music, pretrained_backbone="a/b")
    assert "did you mean 'hidden_size'" in _run(tmp_path, music, "--model.backbone_config.hiden_size", "3")
    assert "num_attention_heads 5" in _run(tmp_path, music, "--model.backbone_config.num_attention_heads", "5")
    assert "128 bins" in _run(tmp_path, music, "--front_end.num_mel_bins", "64")
    assert "'tracks_per_genre' takes int" in _run(tmp_path, "synthetic", "--data_options", "{tracks_per_genre: many}")
    assert "adapter_min_layer 7" in _run(tmp_path, music, adapter="dora", adapter_min_layer=7)
    assert "split_ratios" in _run(tmp_path, music, split_ratios="all")
    assert "learning_rate" in _run(tmp_path, music, learning_rate="fast")


def test_missing_config_file(tmp_path):
    assert "no such config file" in _fails(finetune_here(tmp_path / "no.yaml"))


def test_backbone_of_another_architecture(tmp_path):
    music = write_music(tmp_path / "music", ("blues", "pop"), tracks=3, seconds=1)
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text(json.dumps({"model_type": "wav2vec2"}))
    line = _run(tmp_path, music, pretrained_backbone=str(other), model={})
    assert "'wav2vec2'" in line
    assert "audio-spectrogram-transformer" in line


def test_backbone_that_cannot_be_fetched(tmp_path):
    music = write_music(tmp_path / "music", ("blues", "pop"), tracks=3, seconds=1)
    line = _run(tmp_path, music, pretrained_backbone="MIT/ast-finetuned-audioset-10-10-0.4593", model={})
    assert "folder.yaml" in line


def test_recipe_without_arguments_says_what_to_do_without_the_hub():
    line = _fails(finetune_here("--use_cpu"))
    assert "MIT/ast-finetuned-audioset-10-10-0.4593" in line
    assert "recipes/configs/folder.yaml" in line
    line = _fails(finetune_here("--use_cpu", "--pretrained_backbone", "null", "--adapter", "none"))
    assert "GTZAN" in line
    assert "--data" in line


def test_full_disk_while_saving(tmp_path):
    """A quota stands in for the full disk: the operating system refuses what goes beyond it in the same place."""
    limit = 150_000
    music = write_music(tmp_path / "music", ("blues", "pop"), tracks=3, seconds=1)
    settings = tiny_settings(
        music, tmp_path / "out", save_strategy="no", eval_strategy="no", load_best_model_at_end=False
    )
    settings["model"]["backbone_config"].update(hidden_size=64, intermediate_size=256)
    config = write_config(tmp_path / "run.yaml", settings)
    # The caches are filled first, so that only the run's own files meet the limit.
    assert finetune_here(config, "--output_dir", tmp_path / "first").returncode == 0
    assert (tmp_path / "first" / "model.safetensors").stat().st_size > limit

    script = tmp_path / "restricted.py"
    script.write_text(
        f"import resource, runpy, sys\nresource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        f"sys.path[0] = {str(FINETUNE_AST.parent)!r}\nrunpy.run_path({str(FINETUNE_AST)!r}, run_name='__main__')\n"
    )
    result = run_forked(script, config)
    line = _fails(result)
    assert "disk is full or a quota" in line
    assert str(tmp_path / "out") in line


def test_damaged_and_foreign_checkpoints(tmp_path, tiny_checkpoint, capsys):
    music = write_music(tmp_path / "music", ("blues", "pop"), tracks=1, seconds=1)

    def line(checkpoint) -> str:
        assert hfmgc.cli.main(["evaluate", str(checkpoint), "--data", str(music)]) == 1
        return capsys.readouterr().err.strip().splitlines()[-1]

    assert "no such folder" in line(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    assert "config.json" in line(tmp_path / "empty")
    checkpoint = tiny_checkpoint()
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "cannot be loaded" in line(checkpoint)
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps({**config, "model_type": "bert"}))
    assert "'bert'" in line(checkpoint)


def test_output_folder_of_somebody_else_or_in_the_data(tmp_path):
    music = write_music(tmp_path / "music", ("blues", "pop"), tracks=3, seconds=1)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "README.md").write_text("my own notes")
    assert "holds README.md but no run.yaml" in _run(tmp_path, music, "--output_dir", mine)
    assert (mine / "README.md").read_text() == "my own notes"
    assert "lies in the data folder" in _run(tmp_path, music, "--output_dir", music / "blues" / "run")
    (tmp_path / "file").write_text("")
    assert "is a file" in _run(tmp_path, music, "--output_dir", tmp_path / "file")
    assert "is a file" in _run(tmp_path, music, "--output_dir", tmp_path / "file" / "run")


def test_folder_in_use_by_another_run(tmp_path):
    from filelock import FileLock

    music = write_music(tmp_path / "music", ("blues", "pop"), tracks=3, seconds=1)
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / ".hfmgc.lock"):
        assert "in use by another run" in _run(tmp_path, music)


def test_settings_that_would_train_nothing_or_end_in_a_traceback(tmp_path):
    music = write_music(tmp_path / "music", ("blues", "pop"), tracks=3, seconds=1)
    for field, value in (
        ("num_train_epochs", 0),
        ("per_device_train_batch_size", 0),
        ("learning_rate", -1),
        ("seed", -1),
        ("metric_for_best_model", "acc"),
        ("dataloader_persistent_workers", True),
        ("adapter_targets", []),
        ("preprocessing_num_proc", -3),
    ):
        assert field in _run(tmp_path, music, **{field: value})
    assert "hub_model_id" in _run(tmp_path, music, "--push_to_hub")
    assert "'max_length'" in _run(tmp_path, music, "--front_end.max_length", "many")
    assert "front_end" in _run(tmp_path, music, "--front_end.max_length", "8")


def test_training_that_diverges_is_no_result(tmp_path):
    music = write_music(tmp_path / "music", ("blues", "pop"), tracks=3, seconds=1)
    line = _run(tmp_path, music, "--learning_rate", "1e30", "--max_grad_norm", "0")
    assert "diverged" in line
    assert not (tmp_path / "out" / "results.json").exists()


def test_genre_of_broken_files_and_a_single_genre(tmp_path):
    music = write_music(tmp_path / "music", ("blues", "pop"), tracks=3, seconds=1)
    (music / "rock").mkdir()
    for number in range(3):
        (music / "rock" / f"{number}.wav").write_bytes(b"no audio")
    assert "'rock'" in _run(tmp_path, music)
    alone = write_music(tmp_path / "alone", ("blues",), tracks=4, seconds=1)
    assert "one genre only" in _run(tmp_path, alone)


def test_data_that_changed_since_the_run_began(tmp_path):
    music = write_music(tmp_path / "music", ("blues", "pop"), tracks=4, seconds=1)
    config = write_config(tmp_path / "run.yaml", tiny_settings(music, tmp_path / "out"))
    assert finetune_here(config).returncode == 0
    (music / "blues" / "blues.000.wav").rename(music / "blues" / "new.wav")
    line = _fails(finetune_here(config, "--resume_from_checkpoint", "last"))
    assert "restore the data and the split settings" in line


def test_deeply_nested_json_is_damaged_and_no_traceback(tmp_path, tiny_checkpoint, capsys):
    music = write_music(tmp_path / "music", ("blues", "pop"), tracks=1, seconds=1)
    nested = "[" * 200_000 + "]" * 200_000
    for name in ("tracks.json", "tracks.jsonl"):
        (tmp_path / name).write_text(nested)
        assert hfmgc.cli.main(["check", str(tmp_path / name)]) == 1
        assert "nested too deeply" in capsys.readouterr().err.strip().splitlines()[-1]
    for name in ("split.json", "preprocessor_config.json", "config.json"):
        checkpoint = tiny_checkpoint()
        (checkpoint / name).write_text(nested)
        assert hfmgc.cli.main(["evaluate", str(checkpoint), "--data", str(music)]) == 1
        line = capsys.readouterr().err.strip().splitlines()[-1]
        assert line.startswith("error: ")
        assert str(checkpoint) in line

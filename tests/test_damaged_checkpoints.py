"""A damaged file in the newest checkpoint costs the steps since the one before it, and no traceback."""

import shutil
from pathlib import Path

import pytest
import torch
from conftest import write_music
from safetensors.torch import save_file

from hfmgc.errors import ConfigError
from hfmgc.training.arguments import RunArguments
from hfmgc.training.run_folder import RunRecord, begin_run, release_run_folders
from recipes import finetune_here, tiny_settings, write_config


def write_checkpoint(folder: Path) -> None:
    folder.mkdir(parents=True)
    save_file({"weight": torch.arange(64.0)}, folder / "model.safetensors")
    for name in ("optimizer.pt", "rng_state.pth", "training_args.bin"):
        torch.save({"state": torch.arange(64.0)}, folder / name)
    for name in ("config.json", "trainer_state.json"):
        (folder / name).write_text("{}")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(torch.arange(64.0).numpy().tobytes()) + 100] ^= 1
    path.write_bytes(content)


def begin(folder: Path, wanted: str) -> Path | None:
    run = RunArguments(output_dir=str(folder), resume_from_checkpoint=wanted, use_cpu=True)
    try:
        return begin_run(run, RunRecord.from_settings((run,), run))
    finally:
        release_run_folders()


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("model.safetensors", cut),
        ("model.safetensors", lambda path: path.write_bytes(b"")),
        ("optimizer.pt", cut),
        ("optimizer.pt", flip),
        ("rng_state.pth", lambda path: path.write_bytes(b"")),
        ("training_args.bin", cut),
        ("config.json", lambda path: path.write_text("{")),
    ],
)
def test_a_damaged_file_is_named_and_the_checkpoint_before_it_is_used(tmp_path, caplog, name, damage):
    for step in (2, 10, 9):
        write_checkpoint(tmp_path / f"checkpoint-{step}")
    damage(tmp_path / "checkpoint-10" / name)
    assert begin(tmp_path, "last") == tmp_path / "checkpoint-9"
    assert f"{tmp_path / 'checkpoint-10' / name} is damaged" in caplog.text
    assert "using the checkpoint before it" in caplog.text
    with pytest.raises(ConfigError, match=rf"checkpoint-10/{name} is damaged .*: resume from an earlier one"):
        begin(tmp_path, str(tmp_path / "checkpoint-10"))


def test_a_run_resumed_from_the_checkpoint_before_ends_with_the_same_weights(tmp_path):
    music = write_music(tmp_path / "music", ("blues", "metal", "pop"), tracks=4, seconds=0.5)
    config = write_config(tmp_path / "run.yaml", tiny_settings(music, tmp_path / "out"))
    result = finetune_here(config)
    assert result.returncode == 0, result.stderr
    whole = shutil.copytree(tmp_path / "out", tmp_path / "whole")
    newest = max(whole.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1])).name
    damaged = tmp_path / "out" / newest / "optimizer.pt"
    damaged.write_bytes(damaged.read_bytes()[:1000])
    result = finetune_here(config, "--resume_from_checkpoint", "last")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert damaged.stat().st_size > 1000

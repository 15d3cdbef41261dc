"""What a run publishes: no path of the machine that it was made on, and readable by whoever may read the rest."""

import json

import soundfile
from conftest import tone

from hfmgc.hub.push import files_to_push
from hfmgc.training.run_folder import _strip_paths
from recipes import finetune_here, tiny_settings, write_config


GENRES = ("blues", "metal", "pop")


def write_list(folder, name: str = "tracks.csv"):
    """A list outside the folder of its music, with absolute paths."""
    rows = ["path,label"]
    for index, genre in enumerate(GENRES):
        for number in range(4):
            path = folder / "some where" / genre / f"{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, tone(10 * index + number, seconds=0.5, frequency=220.0 * 2**index), 16000)
            rows.append(f"{path},{genre}")
    path = folder / "lists" / name
    path.parent.mkdir()
    path.write_text("\n".join(rows))
    return path


def test_a_run_publishes_no_path_of_the_machine_and_readable_weights(tmp_path, tiny_checkpoint):
    file = write_list(tmp_path)
    settings = tiny_settings(file, tmp_path / "out", model_name_or_path=str(tiny_checkpoint()))
    settings |= {"model": {}, "front_end": {}, "adapter": "lora"}
    config = write_config(tmp_path / "run.yaml", settings)
    result = finetune_here(config, "--data", file, "--prefix_store", tmp_path / "some where" / "prefixes")
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "out"
    published = files_to_push(folder)
    assert {"run.yaml", "results.json", "split.json", "README.md", "adapter/adapter_config.json"} <= set(published)
    for name in published:
        content = (folder / name).read_bytes()
        assert str(tmp_path).encode() not in content, name
        assert b"some where" not in content, name
    ids = [name for side in json.loads((folder / "split.json").read_text())["sides"].values() for name in side]
    assert sorted(name.split("/")[1] for name in ids) == [f"{number}.wav" for number in range(4) for genre in GENRES]
    assert "tracks.csv" in (folder / "run.yaml").read_text()
    modes = {oct((folder / name).stat().st_mode) for name in published}
    assert len(modes) == 1, modes


def test_paths_within_an_option_are_cut_to_their_last_part():
    assert _strip_paths("{audio: /home/me/my music/fma_small, metadata: /home/me/meta}") == (
        "{audio: fma_small, metadata: meta}"
    )
    assert (
        _strip_paths("--data_options={folders: [/home/me/a, b/c], seed: 1}")
        == "--data_options={folders: [a, b/c], seed: 1}"
    )
    for text in ("{seed: 1e-4,  a: b}", "[", "https://host/path", "music/blues", "--data=b/c"):
        assert _strip_paths(text) == text

"""Publishing a run: the real client of huggingface_hub against a stand-in of the Hub, and the model card."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from hub_stand_in import HubStandIn
from huggingface_hub import ModelCard, constants, snapshot_download
from huggingface_hub.utils import _http

from hfmgc.errors import SaveError
from hfmgc.hub.card import CardError, write_model_card
from hfmgc.hub.push import HubError, push_command, push_run


PUBLISHED = {
    "README.md": b"---\nlibrary_name: transformers\n---\n# A run\n",
    "adapter/adapter_config.json": b"{}",
    "adapter/adapter_model.safetensors": b"\0adapter" * 9,
    "config.json": json.dumps({"model_type": "wav2vec2", "hidden_size": 12, "num_attention_heads": 2}).encode(),
    "confusion_matrix.json": b"[[1]]",
    "confusion_matrix.png": b"\x89PNG\0picture",
    "model.safetensors": bytes(range(256)) * 2000,
    "modeling_run.py": b"import torch\n",
    "preprocessor_config.json": b'{"sampling_rate": 16000}',
    "results.json": b"{}",
    "run.yaml": b"seed: 42\n",
    "split.json": b"{}",
}
KEPT = [
    ".gitignore",
    ".cache/something",
    "__pycache__/modeling_run.cpython-311.pyc",
    "adapter/.hidden",
    "adapter/checkpoint-3/optimizer.pt",
    "adapter/__pycache__/module.pyc",
    "checkpoint-10/optimizer.pt",
    "checkpoint-10/model.safetensors",
    "model.safetensors.tmp",
    "runs/events.out.tfevents.1",
    "training_args.bin",
]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def run_folder(tmp_path):
    folder = tmp_path / "out put"
    for name, content in {**PUBLISHED, **dict.fromkeys(KEPT, b"secret")}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The stand-in, and a client without Xet, token or waits between its attempts."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(_http, "time", SimpleNamespace(sleep=lambda seconds: None))
    _http.close_session()  # the proxy variables are read when the session starts
    with HubStandIn() as hub:
        yield hub
    _http.close_session()


def push(hub: HubStandIn, folder: Path, name: str = "tester/model", **options) -> str:
    return push_run(folder, name, **{"endpoint": hub.endpoint, "token": hub.token, **options})


def test_one_commit_with_exactly_the_files_of_the_run(hub, run_folder):
    before = contents(run_folder)

    address = push(hub, run_folder, commit_message="Publish it")

    (commit,) = hub.commits("tester/model")
    assert address == f"{hub.endpoint}/tester/model/commit/{commit.oid}"
    assert commit.message == "Publish it"
    assert sorted(commit.added) == sorted(PUBLISHED)
    assert hub.files("tester/model") == PUBLISHED
    assert [name for name, file in commit.files.items() if file.lfs] == [
        "adapter/adapter_model.safetensors",
        "confusion_matrix.png",
        "model.safetensors",
    ]
    assert hub.requests.count("commit") == 1
    assert contents(run_folder) == before


def test_a_download_gives_the_same_bytes(hub, run_folder, tmp_path):
    push(hub, run_folder)

    snapshot = snapshot_download("tester/model", endpoint=hub.endpoint, cache_dir=tmp_path / "cache")

    assert contents(Path(snapshot)) == PUBLISHED


def test_a_push_can_be_repeated_and_sends_only_what_changed(hub, run_folder):
    first = push(hub, run_folder)
    assert push(hub, run_folder) == first
    assert len(hub.commits("tester/model")) == 1

    (run_folder / "results.json").write_text('{"tracks": 1}')
    push(hub, run_folder)

    assert [commit.added for commit in hub.commits("tester/model")][1:] == [["results.json"]]
    assert hub.requests.count("lfs_upload") == 3


def test_more_files_than_a_batch_of_the_client_are_still_one_commit(hub, run_folder):
    names = [f"code_{number:03d}.py" for number in range(300)]
    for name in names:
        (run_folder / name).write_text(name)

    push(hub, run_folder)

    (commit,) = hub.commits("tester/model")
    assert set(names) < set(commit.added)


def test_visibility_of_a_new_repository(hub, run_folder):
    push(hub, run_folder, "tester/default")
    push(hub, run_folder, "tester/private", private=True)
    push(hub, run_folder, "tester/public", private=False)

    assert {name: repository.private for name, repository in hub.repositories.items()} == {
        "tester/default": False,
        "tester/private": True,
        "tester/public": False,
    }


def test_private_is_never_published_in_a_public_repository(hub, run_folder):
    push(hub, run_folder)
    (run_folder / "results.json").write_text("{ }")

    with pytest.raises(HubError, match="exists and is public"):
        push(hub, run_folder, private=True)

    assert len(hub.commits("tester/model")) == 1


def test_a_branch_is_made_and_main_left_alone(hub, run_folder):
    push(hub, run_folder, revision="second seed")

    assert hub.files("tester/model", "second seed") == PUBLISHED
    assert hub.files("tester/model", "main") == {}


@pytest.mark.parametrize(
    ("step", "how", "cause"),
    [
        ("create", "drop", "the connection to the Hub failed"),
        ("validate", 400, "Invalid metadata in README.md"),
        ("preupload", 404, "does not exist"),
        ("preupload", 429, "too many requests"),
        ("lfs_batch", 503, "answers with 503"),
        ("lfs_upload", "drop", "the connection to the Hub failed"),
        ("lfs_upload", 500, "answers with 500"),
        ("commit", 503, "answers with 503"),
        ("commit", 401, "hf auth login"),
        ("commit", 403, "write access to 'tester'"),
        ("commit", "drop", "the connection to the Hub failed"),
    ],
)
def test_a_failure_is_one_line_and_changes_nothing(hub, run_folder, step, how, cause):
    before = contents(run_folder)
    hub.fail(step, how)

    with pytest.raises(HubError) as caught:
        push(hub, run_folder, private=True, revision="main")

    message = str(caught.value)
    assert cause in message
    assert message.startswith("tester/model: not pushed, ")
    assert message.endswith(
        f"push later with: {push_command(run_folder, 'tester/model', private=True, revision='main')}"
    )
    assert "\n" not in message
    assert hub.token not in message
    assert all(repository.commits[1:] == [] for repository in hub.repositories.values())
    assert contents(run_folder) == before

    hub.fail(step, how, times=0)
    push(hub, run_folder, private=True)
    assert hub.files("tester/model") == PUBLISHED


def test_an_upload_that_breaks_once_is_taken_up_again(hub, run_folder):
    hub.fail("lfs_upload", "drop", times=1)

    push(hub, run_folder)

    assert hub.files("tester/model") == PUBLISHED


def test_a_commit_whose_answer_is_lost_is_not_made_twice(hub, run_folder):
    hub.fail("commit", "lose")
    with pytest.raises(HubError, match="connection"):
        push(hub, run_folder)
    hub.fail("commit", "lose", times=0)

    address = push(hub, run_folder)

    (commit,) = hub.commits("tester/model")
    assert address.endswith(commit.oid)


def test_who_may_not_write_is_told_so(hub, run_folder):
    with pytest.raises(HubError, match=r"not accepted \(401\).*hf auth login"):
        push(hub, run_folder, token="wrong")
    with pytest.raises(HubError, match=r"may not write there \(403\).*'others'"):
        push(hub, run_folder, "others/model")
    with pytest.raises(HubError, match="there is no token: run `hf auth login` or set HF_TOKEN"):
        push(hub, run_folder, token=None)
    assert hub.repositories == {}


def test_a_token_that_cannot_be_sent_is_not_shown(hub, run_folder):
    for token in ("secret\ntoken", "secret token", "secret\u2019token"):
        with pytest.raises(HubError, match="the token is damaged") as caught:
            push(hub, run_folder, token=token)
        assert "secret" not in str(caught.value)
    assert hub.requests == []


@pytest.mark.parametrize("name", ["run.yaml", "README.md"])
def test_the_token_is_not_published_with_the_settings(hub, run_folder, name):
    (run_folder / name).write_text(f"---\ncommand: train --hub_token {hub.token}\n---\n")
    with pytest.raises(HubError, match=f"{name} contains the access token") as caught:
        push(hub, run_folder)
    assert hub.token not in str(caught.value)
    assert hub.requests == []


def test_a_card_without_metadata_is_refused_by_the_hub(hub, run_folder):
    (run_folder / "README.md").write_text("# No metadata")
    with pytest.raises(HubError, match="the card has no metadata"):
        push(hub, run_folder)
    assert hub.commits("tester/model") == []


def test_a_token_in_the_environment_is_used(hub, run_folder, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", hub.token)
    push(hub, run_folder, token=None)
    assert len(hub.commits("tester/model")) == 1


def test_offline_asks_nothing_of_the_hub(hub, run_folder, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set: unset it; push later with: hfmgc push"):
        push(hub, run_folder)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set"):
        push(hub, run_folder)
    assert hub.requests == []


@pytest.mark.parametrize("name", ["model", "a/b/c", "", "tester/", "/model", "tester/a b", "tester/a--b", "../out"])
def test_a_name_that_is_not_valid_is_refused_before_anything_is_sent(hub, run_folder, name):
    with pytest.raises(HubError, match="not a repository name"):
        push(hub, run_folder, name)
    assert hub.requests == []


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "preprocessor_config.json", "README.md"])
def test_a_folder_that_is_not_a_finished_run_is_refused(hub, run_folder, name):
    (run_folder / name).write_bytes(b"")
    with pytest.raises(HubError, match=f"not a finished run, {name} is empty"):
        push(hub, run_folder)
    (run_folder / name).unlink()
    with pytest.raises(HubError, match=f"not a finished run, {name} is missing"):
        push(hub, run_folder)
    with pytest.raises(HubError, match="no such folder"):
        push(hub, run_folder / "nowhere")
    assert hub.requests == []


def test_the_command_to_push_later_survives_the_shell():
    command = push_command(Path("-odd name's"), "tester/model", private=True, revision="v 1")
    assert shlex.split(command) == [
        *("hfmgc", "push", "./-odd name's", "--hub_model_id", "tester/model"),
        *("--private", "--revision", "v 1"),
    ]
    assert push_command(Path("out"), "tester/model") == "hfmgc push out --hub_model_id tester/model"


@pytest.mark.launches
def test_another_process_needs_only_the_environment(hub, run_folder, tmp_path):
    script = """
import sys
from huggingface_hub import snapshot_download
from transformers import AutoConfig
from hfmgc.hub.push import push_run

push_run(sys.argv[1], "tester/model", private=True)
print(AutoConfig.from_pretrained("tester/model").hidden_size, snapshot_download("tester/model"))
"""
    environment = {**os.environ, **hub.environment(tmp_path / "home")}
    result = subprocess.run(
        [sys.executable, "-c", script, str(run_folder)], env=environment, capture_output=True, text=True
    )

    assert result.returncode == 0, result.stderr
    hidden_size, snapshot = result.stdout.split()
    assert hidden_size == "12"
    assert contents(Path(snapshot)) == PUBLISHED
    assert len(hub.commits("tester/model")) == 1
    assert hub.repositories["tester/model"].private


GENRES = ["blues", "hip|hop"]
RUN_FILES = {
    "config.json": {
        "architectures": ["HfmgcASTForAudioClassification"],
        "model_type": "hfmgc-ast",
        "id2label": {"1": "hip|hop", "0": "blues"},
        "voting": "mean",
        "auto_map": {"AutoConfig": "configuration_ast.HfmgcASTConfig"},
    },
    "preprocessor_config.json": {"sampling_rate": 16000, "window_policy": "even", "max_windows": 12},
    "results.json": {
        "hfmgc_version": "0.1.0",
        "checkpoint": None,
        "data": {
            "name": "gtzan",
            "licence": "unstated by its authors",
            "citation": "Tzanetakis and Cook,\n2002",
            "revision": "4bd857132c",
            "location": "somebody/gtzan",
            "synthetic": False,
        },
        "side": "test",
        "tracks": 100,
        "windows": 1300,
        "genres": GENRES,
        "metrics": {
            "accuracy": 0.81,
            "accuracy_interval": [0.73, 0.88],
            "interval_method": "percentile bootstrap over tracks, 10,000 resamples, seed 0",
            "macro_precision": 0.0,
            "macro_recall": 0.82,
            "macro_f1": 0.805,
            "ovr_accuracy": 0.96,
            "window_accuracy": 0.75,
        },
        "per_genre": [
            {"genre": "hip|hop", "tracks": 50, "precision": 0.8, "recall": 0.9, "f1": None, "ovr_accuracy": 0.97}
        ],
        "confusion_matrix": [[40, 10], [9, 41]],
        "notes": ["2 tracks are shorter than a window"],
        "skipped": [{"track_id": "jazz.00054", "reason": "not decodable"}],
        "validation": {"accuracy": 0.9},
    },
    "split.json": {
        "dataset": "gtzan",
        "revision": "4bd857132c",
        "policy": "stratified",
        "ratios": [8, 1, 1],
        "seed": 7,
        "comparable_note": None,
        "sides": {"train": ["a", "b", "c"], "validation": ["d"], "test": ["e", "f"]},
        "digest": "sha256:abcdef",
    },
    "run.yaml": {
        "command": "python train.py ast.yaml --seed 42",
        "seed": 42,
        "settings": {
            "training": {"learning_rate": 0.0001, "resume": None, "early_stopping": True, "hub_token": "hf_secret"}
        },
        "versions": {"torch": "2.13.0", "transformers": "5.23.0"},
        "model": {
            "parameters": 86345210,
            "trainable_parameters": 155810,
            "adapter": {"type": "lora", "r": 8},
            "backbone": "somebody/backbone",
        },
        "training": {"epochs": 3, "best_checkpoint": "/somewhere/out/checkpoint-30", "world_size": 2},
    },
}


def write_run(folder: Path, **changes: dict) -> Path:
    """Write the files of a run; `changes` replace keys of the file with that stem, None leaves a file out."""
    folder.mkdir(exist_ok=True)
    for name, content in RUN_FILES.items():
        change = changes.get(name.split(".")[0], {})
        if change is not None:
            content = {**content, **change}
            text = yaml.safe_dump(content, sort_keys=False) if name.endswith(".yaml") else json.dumps(content)
            (folder / name).write_text(text)
    return folder


def card_of(folder: Path, **options) -> str:
    return write_model_card(folder, **options).read_text(encoding="utf-8")


def test_the_card_says_what_the_files_of_the_run_say(tmp_path):
    folder = write_run(tmp_path / "out")
    card = card_of(folder, hub_model_id="tester/model", licence="cc-by-4.0", backbone_licence="bsd-3-clause")

    pattern = r"""# tester/model
.* one of 2\. Trained with hfmgc 0\.1\.0\.
> \*\*Not comparable with fault-filtered results\.\*\*
## Model
\| Architecture \| `HfmgcASTForAudioClassification` \|
\| Backbone .*\| `somebody/backbone` \|
\| Licence of the backbone \| bsd-3-clause \|
\| Parameters \| 86,345,210 \|
\| Trained parameters \| 155,810 \|
\| Adapter .*\| type: lora, r: 8 \|
\| Licence of this checkpoint \| cc-by-4.0 \|
## How to use
from hfmgc\.data\.audio import load_audio
classifier = pipeline\("audio-classification", model="tester/model"\)
trust_remote_code=True
up to 12 windows of a track, evenly spaced .* at 16,000 Hz\. .* mean of the windows' probabilities
## Genres
blues, hip\\\|hop
## Training data
- Data: GTZAN
- Source: `somebody/gtzan`
- Revision: `4bd857132c`
- Licence: unstated by its authors
- Citation: Tzanetakis and Cook, 2002
## Split
- Policy: stratified
- Ratios: 8:1:1
- Seed: 7
- Tracks: 3 train, 1 validation, 2 test
- Digest: `sha256:abcdef`
## Results
On 100 tracks of the test side \(1,300 windows\)\.
\| Accuracy of tracks \| 81\.0 % \(95 % interval 73\.0 % to 88\.0 %\) \|
\| Accuracy of single windows \| 75\.0 % \|
\| Precision, macro \| 0\.0 % \|
\| Accuracy of tracks, validation side \| 90\.0 % \|
Interval: percentile bootstrap over tracks, 10,000 resamples, seed 0\.
- 2 tracks are shorter than a window
\| hip\\\|hop \| 50 \| 80\.0 % \| 90\.0 % \| not known \| 97\.0 % \|
\| \| blues \| hip\\\|hop \|
\|---\|---\|---\|
\| blues \| 40 \| 10 \|
\| hip\\\|hop \| 9 \| 41 \|
\| jazz\.00054 \| not decodable \|
- best checkpoint: checkpoint-30
- seed: 42
\| training\.learning_rate \| 0\.0001 \|
\| training\.early_stopping \| true \|
torch 2\.13\.0, transformers 5\.23\.0
## Reproduce
python train\.py ast\.yaml --seed 42
## Limits"""
    position = 0
    for line in pattern.splitlines():
        match = re.compile(line).search(card, position)
        assert match, f"{line!r} is not in the rest of the card:\n{card[position:]}"
        position = match.end()
    assert "None" not in card
    assert "/somewhere" not in card
    assert "hf_secret" not in card


def test_the_model_index_parses_back(tmp_path):
    data = ModelCard.load(
        write_model_card(write_run(tmp_path / "out"), hub_model_id="tester/model", licence="mit", tags=["mine"])
    ).data

    assert data.model_name == "model"
    assert {(result.metric_name, result.metric_value) for result in data.eval_results} == {
        ("Accuracy (tracks)", 0.81),
        ("Precision (macro)", 0.0),
        ("Recall (macro)", 0.82),
        ("F1 (macro)", 0.805),
    }
    first = data.eval_results[0]
    assert (first.dataset_type, first.dataset_split, first.dataset_revision) == (
        "somebody/gtzan",
        "test",
        "4bd857132c",
    )
    assert first.dataset_args == {"policy": "stratified", "seed": 7, "digest": "sha256:abcdef"}
    assert (data.license, data.base_model, data.datasets) == ("mit", "somebody/backbone", ["somebody/gtzan"])
    assert data.pipeline_tag == "audio-classification"
    assert {"mine", "peft"} <= set(data.tags)


def test_warnings_appear_where_they_belong_and_nowhere_else(tmp_path):
    random_split, synthetic, optimistic = (
        "Not comparable with fault-filtered",
        "Synthetic data.",
        "also chose the checkpoint",
    )
    filtered = card_of(write_run(tmp_path / "filtered", split={"policy": "fault_filtered"}))
    other = write_run(tmp_path / "other", split={"dataset": "fma"}, results={"data": {"name": "fma"}})
    made = write_run(
        tmp_path / "made",
        split={"dataset": "synthetic"},
        results={"data": {"name": "synthetic", "synthetic": True}, "side": "validation"},
    )

    assert random_split not in filtered
    assert random_split not in card_of(other)
    assert synthetic not in card_of(other)
    assert optimistic not in card_of(other)
    assert random_split not in card_of(made)
    assert synthetic in card_of(made)
    assert optimistic in card_of(made)
    assert "never heard real music" in card_of(made)
    assert "synthetic-data" in ModelCard.load(made / "README.md").data.tags


def test_a_local_backbone_or_corpus_does_not_show_where_it_lay(tmp_path):
    (tmp_path / "corpus").mkdir()
    data = {"name": "folder", "location": str(tmp_path / "corpus")}
    folder = write_run(
        tmp_path / "out",
        results={"data": data},
        run={"model": {"backbone": f"{tmp_path}/my-backbone"}, "training": None},
    )
    card = card_of(folder)
    assert str(tmp_path) not in card
    assert "`my-backbone`" in card
    assert ModelCard.load(folder / "README.md").data.base_model is None


def test_the_picture_takes_the_place_of_the_matrix(tmp_path):
    folder = write_run(tmp_path / "out")
    (folder / "confusion_matrix.png").write_bytes(b"picture")
    card = card_of(folder)
    assert "](confusion_matrix.png)" in card
    assert "| blues | 40 | 10 |" not in card


@pytest.mark.parametrize("value", ["left out", None])
@pytest.mark.parametrize(
    ("name", "key"), [(name, key) for name, content in RUN_FILES.items() for key in [*content, "the file"]]
)
def test_what_is_not_known_is_left_out(tmp_path, name, key, value):
    folder = write_run(tmp_path / "out")
    if key == "the file":
        if name in ("config.json", "results.json"):
            return
        (folder / name).unlink()
    else:
        content = {**RUN_FILES[name], key: None}
        if value == "left out":
            del content[key]
        (folder / name).write_text(
            yaml.safe_dump(content, sort_keys=False) if name.endswith(".yaml") else json.dumps(content)
        )

    card = card_of(folder)

    assert "None" not in card
    assert "## Limits" in card
    assert re.search(r"^## [^\n]*\n+(?=## |\Z)", card, re.MULTILINE) is None, "a section without content"
    ModelCard.load(folder / "README.md")


def test_a_run_that_says_almost_nothing_has_a_card(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "results.json").write_text('{"metrics": {"accuracy": NaN}}')
    card = card_of(tmp_path)
    assert re.findall("^## .*", card, re.MULTILINE) == ["## Model", "## How to use", "## Results", "## Limits"]
    assert "| Accuracy of tracks | not known |" in card
    assert "model-index" not in card


@pytest.mark.parametrize("name", ["config.json", "results.json"])
def test_a_card_without_what_it_is_written_from_is_an_error(tmp_path, name):
    folder = write_run(tmp_path / "out")
    (folder / name).unlink()
    with pytest.raises(CardError, match=f"{name}: missing, and the model card is written from it"):
        write_model_card(folder)
    (folder / name).write_text("{broken")
    with pytest.raises(CardError, match=f"{name}: cannot be read"):
        write_model_card(folder)
    (folder / name).write_text("[]")
    with pytest.raises(CardError, match=f"{name}: should hold names and values, not a list"):
        write_model_card(folder)
    assert not (folder / "README.md").exists()


def test_a_card_that_cannot_be_written_is_an_error(tmp_path):
    folder = write_run(tmp_path / "out")
    (folder / "README.md").mkdir()
    with pytest.raises(SaveError, match="could not be written"):
        write_model_card(folder)

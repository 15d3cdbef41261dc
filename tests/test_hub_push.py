"""Publishing a run: the real client of huggingface_hub against a stand-in of the Hub."""

import json
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
from fresh import run_fresh
from hub_stand_in import HubStandIn
from huggingface_hub import constants, snapshot_download
from huggingface_hub.utils import _http

from hfmgc.hub.push import COMMIT_MESSAGE, HubError, push_command, push_run


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

    address = push(hub, run_folder)

    (commit,) = hub.commits("tester/model")
    assert address == f"{hub.endpoint}/tester/model/commit/{commit.oid}"
    assert commit.message == COMMIT_MESSAGE
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
        ("create", "drop", "disconnected"),
        ("validate", 400, "Invalid metadata in README.md"),
        ("preupload", 404, "404"),
        ("preupload", 429, "429"),
        ("lfs_batch", 503, "503"),
        ("lfs_upload", "drop", "disconnected"),
        ("lfs_upload", 500, "500"),
        ("commit", 503, "503"),
        ("commit", 401, "hf auth login"),
        ("commit", 403, "write access to 'tester'"),
        ("commit", "drop", "disconnected"),
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


def test_an_upload_that_breaks_once_is_retried(hub, run_folder):
    hub.fail("lfs_upload", "drop", times=1)

    push(hub, run_folder)

    assert hub.files("tester/model") == PUBLISHED


def test_a_commit_whose_response_is_lost_is_not_repeated(hub, run_folder):
    hub.fail("commit", "lose")

    address = push(hub, run_folder)

    (commit,) = hub.commits("tester/model")
    assert address.endswith(commit.oid)
    assert hub.files("tester/model") == PUBLISHED
    assert push(hub, run_folder) == address
    assert hub.requests.count("commit") == 1


def test_a_token_without_write_access_is_refused_with_the_reason(hub, run_folder):
    with pytest.raises(HubError, match=r"\(401\).*hf auth login"):
        push(hub, run_folder, token="wrong")
    with pytest.raises(HubError, match=r"\(403\).*'others'"):
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
from pathlib import Path
from huggingface_hub import snapshot_download
from transformers import AutoConfig
from hfmgc.hub.push import push_run

push_run(Path(sys.argv[1]), "tester/model", private=True)
print(AutoConfig.from_pretrained("tester/model").hidden_size, snapshot_download("tester/model"))
"""
    result = run_fresh(script, run_folder, environment=hub.environment(tmp_path / "home"))

    assert result.returncode == 0, result.stderr
    hidden_size, snapshot = result.stdout.split()
    assert hidden_size == "12"
    assert contents(Path(snapshot)) == PUBLISHED
    assert len(hub.commits("tester/model")) == 1
    assert hub.repositories["tester/model"].private

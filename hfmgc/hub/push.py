"""Publish the folder of a finished run on the Hub, in one commit."""

import os
import shlex
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, get_token
from huggingface_hub.constants import DEFAULT_REVISION, ENV_VARS_TRUE_VALUES, is_offline_mode
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import filter_repo_objects, validate_repo_id

from ..errors import HfmgcError
from ..text import one_line


REQUIRED_FILES = ("config.json", "preprocessor_config.json", "README.md")
WEIGHTS = ("model.safetensors", "pipeline.skops")  # one of them is required

# In these patterns `*` also matches `/`. `training_args.bin` is a pickle that contains paths of the machine; `run.yaml`
# has the settings in readable form.
IGNORED_PATTERNS = tuple(
    pattern
    for name in (".*", "checkpoint-*/*", "runs/*", "__pycache__/*", "*.pyc", "*.tmp", "training_args.bin")
    for pattern in (name, f"*/{name}")
)

COMMIT_MESSAGE = "Publish the run with hfmgc"

TEXT_SUFFIXES = (".json", ".md", ".py", ".txt", ".yaml", ".yml")

# Ways out, by the status of the Hub's response.
TOKEN_HINTS = {
    401: "the Hub rejects the token (401): run `hf auth login`, or set HF_TOKEN to a token with write access",
    403: "the token has no write access (403): use a token with write access to {namespace!r}",
}


class HubError(HfmgcError):
    """A run that was not published, with the reason."""


def push_run(
    folder: Path,
    hub_model_id: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    revision: str | None = None,
    endpoint: str | None = None,
) -> str:
    """Publish a finished run and return the URL of the commit.

    The repository and the branch `revision` are created if they are missing. All files arrive in one commit or none do. A push
    can be repeated: files that the repository already has are not sent again, and without changes there is no new commit. Files
    that match `IGNORED_PATTERNS` (optimizer states, event logs, hidden and temporary files) are not published.

    Args:
        folder: The folder of a finished run.
        hub_model_id: The repository, `user/name`.
        private: Whether a new repository is private; by default as the account's settings say.
        token: Access token; by default HF_TOKEN or the token of `hf auth login`.
        revision: A branch; by default the main branch.
        endpoint: URL of the Hub; by default HF_ENDPOINT or the public Hub.

    Raises:
        HubError: If the folder is not a finished run or contains the token, the name is not valid, there is no token,
            `private` is requested but the repository is public, or the Hub cannot be reached or refuses.
    """
    _check_name(hub_model_id)
    files = files_to_push(folder)
    later = push_command(folder, hub_model_id, private=private, revision=revision)

    def refusal(reason: str) -> HubError:
        return HubError(f"{hub_model_id}: not pushed, {reason}; push later with: {later}")

    # The client reads the variable at import; a program may set it later.
    if is_offline_mode() or os.environ.get("HF_HUB_OFFLINE", "").upper() in ENV_VARS_TRUE_VALUES:
        raise refusal("HF_HUB_OFFLINE is set: unset it")
    # One handler for everything: the errors of the client, its HTTP library, its uploader in Rust and the file system
    # have no common base class, and a finished training must not end in one of their tracebacks.
    try:
        token = (token or get_token() or "").strip()
        if not token:
            raise refusal("there is no token: run `hf auth login` or set HF_TOKEN")
        # The HTTP library would quote a header that it cannot send, and show the token.
        if not (token.isascii() and token.isprintable() and " " not in token):
            raise refusal("the token is damaged: copy it without spaces and line breaks")
        # `run.yaml` records the command and the settings, which may contain the token.
        for path in (folder / name for name in files):
            if path.suffix in TEXT_SUFFIXES and token.encode() in path.read_bytes():
                raise refusal(f"{path} contains the access token: remove it")
        api = HfApi(endpoint=endpoint, token=token)
        api.create_repo(hub_model_id, private=private, exist_ok=True)
        # `private` does not change an existing repository.
        if private and not api.model_info(hub_model_id).private:
            raise refusal("the repository exists and is public: make it private, or omit private")
        if revision not in (None, DEFAULT_REVISION) and not revision.startswith("refs/"):
            api.create_branch(hub_model_id, branch=revision, exist_ok=True)
        try:
            return _commit(api, folder, files, hub_model_id, revision)
        except Exception:
            # The response can be lost although the commit was made. The client compares the files first, so a second attempt
            # returns that commit and makes no other.
            return _commit(api, folder, files, hub_model_id, revision)
    except HubError:
        raise
    except Exception as error:
        raise refusal(_reason(error, hub_model_id)) from error


def push_command(folder: Path, hub_model_id: str, *, private: bool | None = None, revision: str | None = None) -> str:
    """Return the shell command that publishes `folder` later, with the same visibility and branch."""
    # A folder that begins with a dash would be read as an option.
    name = str(folder) if not str(folder).startswith("-") else f"./{folder}"
    words = ["hfmgc", "push", name, "--hub_model_id", hub_model_id]
    if private:
        words.append("--private")
    if revision is not None:
        words += ["--revision", revision]
    return shlex.join(words)


def files_to_push(folder: Path) -> list[str]:
    """Return the sorted names of the files to publish, relative to `folder`.

    Raises:
        HubError: If `folder` is not a finished run.
    """
    if not folder.is_dir():
        raise HubError(f"{folder}: no such folder: give the output folder of a finished run")
    weights = next((name for name in WEIGHTS if (folder / name).is_file()), WEIGHTS[0])
    for name in (*REQUIRED_FILES, weights):
        path = folder / name
        if not path.is_file() or path.stat().st_size == 0:
            state = "is empty" if path.is_file() else "is missing"
            raise HubError(f"{folder}: not a finished run, {name} {state}: finish the training, then push again")
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return list(filter_repo_objects(names, ignore_patterns=list(IGNORED_PATTERNS)))


def _commit(api: HfApi, folder: Path, files: list[str], hub_model_id: str, revision: str | None) -> str:
    # `upload_folder` could split a folder into several commits if hf_xet is installed.
    operations = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=folder / name) for name in files]
    return api.create_commit(hub_model_id, operations, commit_message=COMMIT_MESSAGE, revision=revision).commit_url


def _check_name(hub_model_id: str) -> None:
    try:
        if hub_model_id.count("/") != 1:
            raise HFValidationError("give it as user/name")
        validate_repo_id(hub_model_id)
    except HFValidationError as error:
        raise HubError(f"{hub_model_id!r}: not a repository name: {one_line(error)}") from error


def _reason(error: BaseException, hub_model_id: str) -> str:
    """Return in one line why a push failed: what to do about the token, or the messages of the error and its causes."""
    chain = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    responses = (getattr(link, "response", None) for link in chain)
    status = next((response.status_code for response in responses if response is not None), None)
    if status in TOKEN_HINTS:
        return TOKEN_HINTS[status].format(namespace=hub_model_id.split("/")[0])
    return ": ".join(dict.fromkeys(one_line(link) or type(link).__name__ for link in chain))[:300]

"""Publish the folder of a finished run on the Hub, in one commit."""

import os
import shlex
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, get_token
from huggingface_hub.constants import DEFAULT_REVISION, is_offline_mode
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import filter_repo_objects, validate_repo_id

from ..errors import HfmgcError


REQUIRED_FILES = ("config.json", "model.safetensors", "preprocessor_config.json", "README.md")

# `*` also stands for `/` in these patterns. `training_args.bin` is a pickle that names folders of the machine it was
# written on; nobody needs it to use the checkpoint, and `run.yaml` has the settings in readable form.
IGNORED_PATTERNS = tuple(
    pattern
    for name in (".*", "checkpoint-*/*", "runs/*", "__pycache__/*", "*.pyc", "*.tmp", "training_args.bin")
    for pattern in (name, f"*/{name}")
)

TEXT_SUFFIXES = (".json", ".md", ".py", ".txt", ".yaml", ".yml")

CAUSES_BY_STATUS = {
    400: "the Hub refuses the content (400: {detail})",
    401: "the token is not accepted (401): run `hf auth login`, or set HF_TOKEN to a token with write access",
    403: "the token may not write there (403): use a token with write access to {namespace!r}",
    404: "the repository or the revision does not exist, or the token may not see it (404)",
    413: "a file is larger than the Hub takes (413)",
    429: "the Hub asks to wait (429, too many requests)",
}


class HubError(HfmgcError):
    """A folder that was not published: not a finished run, no name, no token, or no answer from the Hub."""


def push_run(
    folder: Path,
    hub_model_id: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    revision: str | None = None,
    commit_message: str | None = None,
    endpoint: str | None = None,
) -> str:
    """Publish a finished run and return the address of its commit.

    The repository and the branch are created if they are missing. The files arrive in one commit or not at all; what
    the repository has already is not sent again, so that a push can be repeated. The folder is only read.

    Args:
        folder: What a finished run left: at least the files of `REQUIRED_FILES`. Files that match `IGNORED_PATTERNS`
            (optimizer states, event logs, hidden and temporary files) stay here.
        hub_model_id: The repository, `user/name`.
        private: Whether a new repository is private; None for the account's default.
        token: Access token; None for HF_TOKEN or the token of `hf auth login`.
        revision: The branch; None for the main one.
        commit_message: The commit's first line.
        endpoint: Address of the Hub; None for HF_ENDPOINT or the public one.

    Raises:
        HubError: The folder is not a finished run or contains the token, the name is not valid, there is no token,
            `private` is asked for but the repository is public, or the Hub cannot be reached or refuses.
    """
    folder = Path(folder)
    _check_name(hub_model_id)
    files = files_to_push(folder)
    later = push_command(folder, hub_model_id, private=private, revision=revision)

    def refusal(reason: str) -> HubError:
        return HubError(f"{hub_model_id}: not pushed, {reason}; push later with: {later}")

    if _is_offline():
        raise refusal("HF_HUB_OFFLINE is set: unset it")
    # One handler for everything: the client, its HTTP library, its uploader in Rust and the file system share no base
    # class, and a finished training must not end in one of their tracebacks.
    try:
        token = (token or get_token() or "").strip()
        if not token:
            raise refusal("there is no token: run `hf auth login` or set HF_TOKEN")
        # The HTTP library would quote a header that it cannot send, and so show the token.
        if not (token.isascii() and token.isprintable() and " " not in token):
            raise refusal("the token is damaged: copy it again without line breaks")
        # `run.yaml` records the command and the settings; a token given there must not be published with them.
        for path in (folder / name for name in files):
            if path.suffix in TEXT_SUFFIXES and token.encode() in path.read_bytes():
                raise refusal(f"{path} contains the access token: remove it")
        api = HfApi(endpoint=endpoint, token=token)
        api.create_repo(hub_model_id, private=private, exist_ok=True)
        # `private` does not change an existing repository.
        if private and not api.model_info(hub_model_id).private:
            raise refusal("the repository exists and is public: make it private, or drop private")
        if revision not in (None, DEFAULT_REVISION) and not revision.startswith("refs/"):
            api.create_branch(hub_model_id, branch=revision, exist_ok=True)
        return _commit(api, folder, files, hub_model_id, revision, commit_message or "Publish the run with hfmgc")
    except HubError:
        raise
    except Exception as error:
        raise refusal(_cause(error, hub_model_id)) from error


def push_command(folder: Path, hub_model_id: str, *, private: bool | None = None, revision: str | None = None) -> str:
    """Return the shell command that publishes `folder` later, with the same visibility and branch."""
    # With an argument that starts with a dash, the folder would be read as an option.
    name = str(folder) if not str(folder).startswith("-") else f"./{folder}"
    words = ["hfmgc", "push", name, "--hub_model_id", hub_model_id]
    if private:
        words.append("--private")
    if revision is not None:
        words += ["--revision", revision]
    return shlex.join(words)


def files_to_push(folder: Path) -> list[str]:
    """Return the files of a finished run that get published, relative to `folder` and sorted.

    Raises:
        HubError: `folder` is not a finished run.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise HubError(f"{folder}: no such folder: name the output folder of a finished run")
    for name in REQUIRED_FILES:
        path = folder / name
        if not path.is_file() or path.stat().st_size == 0:
            state = "is empty" if path.is_file() else "is missing"
            raise HubError(f"{folder}: not a finished run, {name} {state}: let the training end, then push again")
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return list(filter_repo_objects(names, ignore_patterns=list(IGNORED_PATTERNS)))


def _commit(api: HfApi, folder: Path, files: list[str], hub_model_id: str, revision: str | None, message: str) -> str:
    """Make one commit of all files and return its address."""

    def commit() -> str:
        # Not `upload_folder`: with hf_xet it splits a large folder, or one whose commit fails, into several commits.
        operations = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=folder / name) for name in files]
        return api.create_commit(hub_model_id, operations, commit_message=message, revision=revision).commit_url

    try:
        return commit()
    except Exception as error:
        if not _answer_was_lost(error):
            raise
        return commit()  # the client compares the files first: a commit that was made is returned, not repeated


def _check_name(hub_model_id: str) -> None:
    if str(hub_model_id).count("/") != 1:
        raise HubError(f"{hub_model_id!r}: not a repository name: give it as user/name")
    try:
        validate_repo_id(hub_model_id)
    except HFValidationError as error:
        raise HubError(f"{hub_model_id!r}: not a repository name: {_one_line(error)}") from error


def _is_offline() -> bool:
    # The client reads the variable when it is imported; a program that sets it afterwards means it no less.
    return is_offline_mode() or os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def _chain(error: BaseException) -> list[BaseException]:
    chain = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    return chain


def _is_of_connection(error: BaseException) -> bool:
    # Of the HTTP library only the names are known here: which library it is depends on the version of huggingface_hub.
    return any(kind.__name__ in ("TransportError", "ConnectionError") for kind in type(error).__mro__)


def _answer_was_lost(error: BaseException) -> bool:
    """Return whether the Hub may have done what it was asked: the connection broke, or its gateway did not wait."""
    chain = _chain(error)
    statuses = [getattr(getattr(link, "response", None), "status_code", None) for link in chain]
    return any(status in (502, 504) for status in statuses) or any(map(_is_of_connection, chain))


def _cause(error: BaseException, hub_model_id: str) -> str:
    """Return in one line why the push failed, from the innermost of the chained exceptions that says something."""
    chain = _chain(error)
    response = next((link.response for link in chain if getattr(link, "response", None) is not None), None)
    if response is not None:
        status = response.status_code
        if status in CAUSES_BY_STATUS:
            namespace = hub_model_id.split("/")[0]
            return CAUSES_BY_STATUS[status].format(namespace=namespace, detail=_one_line(error))
        return f"the Hub answers with {status}{' (it is out of order)' if status >= 500 else ''}"
    for link in chain:
        if _is_of_connection(link):
            return f"the connection to the Hub failed ({_one_line(link)})"
    return _one_line(error)


def _one_line(error: BaseException, limit: int = 200) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else f"{text[:limit]}..."

"""Single files and trees of the Hub, fetched with huggingface_hub, which goes on after an interruption."""

import re
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import constants, hf_hub_download, list_repo_files, snapshot_download

from ...errors import DataError, HfmgcError, saving_to


def download(what: str, repository: str, file: str, revision: str | None) -> tuple[Path, str]:
    """Return the path of a file of a dataset's repository, and the checksum that the Hub states, or "".

    Raises:
        DataError: If it cannot be fetched.
    """
    try:
        with saving_to(constants.HF_HUB_CACHE, "or set HF_HOME or HF_HUB_CACHE to another folder"):
            path = Path(hf_hub_download(repository, file, repo_type="dataset", revision=revision))
    except Exception as error:
        raise _failure(what, repository, error) from error
    # Large files lie in the cache under the sha256 that the Hub states; whether they have it, nobody has looked yet.
    blob = path.resolve().name
    return path, f"sha256:{blob}" if re.fullmatch(r"[0-9a-f]{64}", blob) else ""


def download_tree(what: str, repository: str, files: Sequence[str], revision: str | None) -> Path:
    """Return a folder with these files of a dataset's repository."""
    try:
        with saving_to(constants.HF_HUB_CACHE, "or set HF_HOME or HF_HUB_CACHE to another folder"):
            return Path(
                snapshot_download(repository, repo_type="dataset", revision=revision, allow_patterns=list(files))
            )
    except Exception as error:
        raise _failure(what, repository, error) from error


def list_files(what: str, repository: str, revision: str | None) -> list[str]:
    """Return the names of the files of a dataset's repository."""
    try:
        return sorted(list_repo_files(repository, repo_type="dataset", revision=revision))
    except Exception as error:
        raise _failure(what, repository, error) from error


def _failure(what: str, repository: str, error: Exception) -> HfmgcError:
    # Without a network the client's library of HTTP speaks, whose errors have no base in common with the Hub's.
    if isinstance(error, HfmgcError):
        return error
    reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    return DataError(
        f"{what} could not be fetched from {repository} on the Hub ({reason}): check the network and HF_HUB_OFFLINE, or "
        "name a copy on disk in --data_options"
    )

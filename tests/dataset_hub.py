"""The stand-in of the Hub for datasets: what reading them needs, beside what it does for models."""

import re
from pathlib import Path

from hub_stand_in import HubStandIn, StoredCommit, StoredFile, StoredRepository


class DatasetHub(HubStandIn):
    """The stand-in of the Hub, for datasets to be read from."""

    def add(self, repository: str, folder: Path) -> str:
        """Store the files of a folder as the one commit of a dataset's repository; return its oid."""
        files = {
            path.relative_to(folder).as_posix(): StoredFile(path.read_bytes(), lfs=path.stat().st_size > 5000)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        commit = StoredCommit("c" * 40, "all", "main", list(files), files)
        self.repositories[repository] = StoredRepository(False, [commit], {"main": commit})
        return commit.oid

    def answer(self, method, path, token, body):
        """Answer for datasets what the stand-in answers for models."""
        path = re.sub(r"^/api/datasets/", "/api/models/", path)
        path = re.sub(r"^/datasets/", "/", path)
        return super().answer(method, path, token, body)

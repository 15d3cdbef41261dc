"""The stand-in of the Hub for datasets: what reading them needs, beside what it does for models."""

import re
import threading
from pathlib import Path
from urllib.parse import unquote

from hub_stand_in import HubStandIn, StoredCommit, StoredFile, StoredRepository, _Handler, _tree_entry


class _RangeHandler(_Handler):
    """Tells the stand-in which part of a file is asked for."""

    def do_GET(self) -> None:
        self.hub.asked.range = self.headers.get("Range")
        self.handle_request()


class DatasetHub(HubStandIn):
    """The stand-in of the Hub, for datasets to be read from, whole files or parts of them."""

    def __init__(self):
        super().__init__()
        self.asked = threading.local()
        self.parts: list[int] = []
        self._server.RequestHandlerClass = type("Handler", (_RangeHandler,), {"hub": self})

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
        """Answer for datasets what the stand-in answers for models; besides, list folders and send parts of files."""
        path = re.sub(r"^/api/datasets/", "/api/models/", path)
        path = re.sub(r"^/datasets/", "/", path)
        match = re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)/(.+)", path)
        if match:
            files = self._repository(match[1], token).at(match[2]).files
            below = unquote(match[3]) + "/"
            return 200, [_tree_entry(name, file) for name, file in files.items() if name.startswith(below)], {}
        status, content, headers = super().answer(method, path, token, body)
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", getattr(self.asked, "range", None) or "")
        if wanted and method == "GET" and isinstance(content, bytes):
            first, last = int(wanted[1]), min(int(wanted[2]), len(content) - 1)
            headers = {**headers, "Content-Range": f"bytes {first}-{last}/{len(content)}"}
            status, content = 206, content[first : last + 1]
            self.parts.append(len(content))
        return status, content, headers

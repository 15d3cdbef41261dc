"""A small stand-in of the Hub on this machine, for the real client of huggingface_hub to talk to.

It keeps repositories in memory and speaks the part of the Hub's interface that creating a repository, one commit with
LFS files, listing and downloading need. In a test:

    with HubStandIn() as hub:
        push_run(folder, "tester/model", endpoint=hub.endpoint, token=hub.token)      # in this process, without Xet
        subprocess.run(command, env={**os.environ, **hub.environment(tmp_path)})      # or in another one
        assert hub.commits("tester/model")[0].added == [...]

Unlike the Hub it starts a repository without `.gitattributes`, so that a download gives what was pushed and no more.
"""

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import HfFileSystem, constants, hf_api
from huggingface_hub.utils import _http


class HubRefusal(Exception):
    """What the stand-in answers instead of a result."""

    def __init__(self, status: int, message: str, code: str = ""):
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True)
class StoredFile:
    """A file as a commit has it."""

    content: bytes
    lfs: bool

    @property
    def oid(self) -> str:
        """What the Hub names the content by: sha256 of LFS files, git's sha1 of the others."""
        if self.lfs:
            return hashlib.sha256(self.content).hexdigest()
        return hashlib.sha1(f"blob {len(self.content)}\0".encode() + self.content).hexdigest()


@dataclass(frozen=True)
class StoredCommit:
    """A commit: what it changed, and all files as they are after it."""

    oid: str
    message: str
    branch: str
    added: list[str]
    files: dict[str, StoredFile]


@dataclass
class StoredRepository:
    """A repository: the empty commit that creates it, the commits pushed to it, and its branches."""

    private: bool
    commits: list[StoredCommit]
    branches: dict[str, StoredCommit]
    lfs: dict[str, bytes] = field(default_factory=dict)

    def at(self, revision: str) -> StoredCommit:
        """Return the commit that a branch or an oid names."""
        named = {commit.oid: commit for commit in self.commits} | self.branches
        if revision not in named:
            raise HubRefusal(404, "Revision not found", "RevisionNotFound")
        return named[revision]


class HubStandIn:
    """The stand-in; a context manager. `token` may write to the namespace `user`, all others are refused."""

    def __init__(self, user: str = "tester", token: str = "stand-in-token"):
        self.user, self.token = user, token
        self.repositories: dict[str, StoredRepository] = {}
        self.requests: list[str] = []
        self._failures: dict[str, list] = {}
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "HubStandIn":
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def environment(self, home: Path) -> dict[str, str]:
        """Return the variables with which another process takes this for the Hub; its cache and token lie in `home`."""
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_TOKEN": self.token,
            "HF_HOME": str(home),
            "HF_HUB_CACHE": str(Path(home) / "hub"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_OFFLINE": "0",
            "TRANSFORMERS_OFFLINE": "0",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    def use_here(self, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
        """Let the client in this process take this for the Hub; its cache lies in `home`."""
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setenv("HF_TOKEN", self.token)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        for name, value in {
            "ENDPOINT": self.endpoint,
            "HF_HUB_CACHE": str(home / "hub"),
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_OFFLINE": False,
            "HUGGINGFACE_CO_URL_TEMPLATE": self.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        }.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setattr(hf_api.api, "endpoint", self.endpoint)
        HfFileSystem.clear_instance_cache()  # each keeps the endpoint that it was made with
        _http.close_session()  # the proxy variables are read when a session starts

    def fail(self, step: str, how: int | str, times: int = -1) -> None:
        """Let `step` fail the next `times` times (-1: always).

        Args:
            step: `create`, `branch`, `validate`, `preupload`, `lfs_batch`, `lfs_upload`, `commit` or `read`.
            how: A status (503, 401, ...), `drop` (hang up instead of doing it) or `lose` (do it, then hang up).
            times: How often.
        """
        self._failures[step] = [how, times]

    def commits(self, repository: str) -> list[StoredCommit]:
        """Return what was pushed to a repository, oldest first, without the commit that creates it."""
        return self.repositories[repository].commits[1:]

    def files(self, repository: str, revision: str = "main") -> dict[str, bytes]:
        """Return the content of all files of a repository by their names."""
        return {name: file.content for name, file in self.repositories[repository].at(revision).files.items()}

    def answer(self, method: str, path: str, token: str | None, body: bytes) -> tuple[int, Any, dict[str, str]]:
        """Return status, body (bytes, or something to send as JSON) and headers for a request."""
        routes = ((step, re.fullmatch(pattern, path)) for step, methods, pattern in _ROUTES if method in methods)
        step, match = next((route for route in routes if route[1]), (None, None))
        if match is None:
            raise HubRefusal(404, f"the stand-in does not know {method} {path}")
        with self._lock:
            self.requests.append(step)
            how, times = self._failures.get(step, (None, 0))
            if times != 0 and how is not None:
                self._failures[step][1] -= 1
                if how == "drop":
                    raise ConnectionAbortedError
                if isinstance(how, int):
                    raise HubRefusal(how, "the stand-in was told to refuse")
            arguments = {name: unquote(value) for name, value in match.groupdict().items() if value is not None}
            writes = step not in ("read", "validate", "lfs_upload")  # uploads go to signed addresses, without a token
            if writes and token != self.token:
                raise HubRefusal(401, "Invalid username or password.")
            result = getattr(self, f"_{step}")(token=token, body=body, **arguments)
            if times != 0 and how == "lose":
                raise ConnectionAbortedError
            return result

    def _create(self, token, body):
        wish = json.loads(body)
        name = f"{wish.get('organization') or self.user}/{wish['name']}"
        self._check_may_write(name)
        if name in self.repositories:
            return 409, {"error": "You already created this model repo", "url": f"{self.endpoint}/{name}"}, {}
        start = StoredCommit(hashlib.sha1(name.encode()).hexdigest(), "initial commit", "main", [], {})
        self.repositories[name] = StoredRepository(wish.get("visibility") == "private", [start], {"main": start})
        return 200, {"url": f"{self.endpoint}/{name}"}, {}

    def _branch(self, token, body, name, branch):
        repository = self._repository(name, token, write=True)
        if branch in repository.branches:
            raise HubRefusal(409, "Reference already exists")
        repository.branches[branch] = repository.branches["main"]
        return 200, {}, {}

    def _validate(self, token, body):
        if json.loads(body)["content"].startswith("---\n"):
            return 200, {"errors": [], "warnings": []}, {}
        return 400, {"errors": [{"message": "the card has no metadata"}]}, {}

    def _preupload(self, token, body, name, revision):
        files = self._repository(name, token, write=True).at(revision).files
        answers = []
        for wish in json.loads(body)["files"]:
            lfs = b"\0" in base64.b64decode(wish["sample"]) or wish["path"].endswith((".safetensors", ".png", ".bin"))
            mode = {"path": wish["path"], "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False}
            answers.append({**mode, "oid": files[wish["path"]].oid if wish["path"] in files else None})
        return 200, {"files": answers}, {}

    def _lfs_batch(self, token, body, name):
        stored = self._repository(name, token, write=True).lfs
        objects = [{"oid": wish["oid"], "size": wish["size"]} for wish in json.loads(body)["objects"]]
        for answer in objects:
            if answer["oid"] not in stored:
                answer["actions"] = {"upload": {"href": f"{self.endpoint}/lfs-storage/{name}/{answer['oid']}"}}
        return 200, {"transfer": "basic", "objects": objects}, {}

    def _lfs_upload(self, token, body, name, oid):
        if hashlib.sha256(body).hexdigest() != oid:
            raise HubRefusal(400, "the content does not have the sha256 that was announced")
        self.repositories[name].lfs[oid] = body
        return 200, {}, {}

    def _commit(self, token, body, name, revision):
        repository = self._repository(name, token, write=True)
        parent = repository.at(revision)
        lines = [json.loads(line) for line in body.splitlines()]
        files, added = dict(parent.files), []
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = StoredFile(base64.b64decode(value["content"]), lfs=False)
            elif line["key"] == "lfsFile" and len(repository.lfs.get(value["oid"], b"")) == value["size"]:
                files[value["path"]] = StoredFile(repository.lfs[value["oid"]], lfs=True)
            else:
                raise HubRefusal(400, f"cannot commit {value['path']}: {line['key']}")
            added.append(value["path"])
        oid = hashlib.sha1(parent.oid.encode() + body).hexdigest()
        commit = StoredCommit(oid, lines[0]["value"]["summary"], revision, added, files)
        repository.commits.append(commit)
        repository.branches[revision] = commit
        address = f"{self.endpoint}/{name}/commit/{oid}"
        return 200, {"success": True, "commitOid": oid, "commitUrl": address, "pullRequestUrl": None}, {}

    def _read(self, token, body, name, kind, revision="main", path=""):
        repository = self._repository(name, token)
        commit = repository.at(revision)
        if kind in ("", "revision"):
            siblings = [{"rfilename": file} for file in commit.files]
            return 200, {"id": name, "sha": commit.oid, "private": repository.private, "siblings": siblings}, {}
        if kind == "tree":
            return 200, [_tree_entry(path, file) for path, file in sorted(commit.files.items())], {}
        headers = {"X-Repo-Commit": commit.oid}
        if path not in commit.files:
            return 404, {"error": "Entry not found"}, {**headers, "X-Error-Code": "EntryNotFound"}
        return 200, commit.files[path].content, {**headers, "ETag": f'"{commit.files[path].oid}"'}

    def _check_may_write(self, name):
        if name.split("/")[0] != self.user:
            raise HubRefusal(403, "You don't have the rights to create a model under this namespace")

    def _repository(self, name, token, write=False) -> StoredRepository:
        repository = self.repositories.get(name)
        if repository is None or (repository.private and token != self.token):
            raise HubRefusal(404 if token == self.token else 401, "Repository not found", "RepoNotFound")
        if write:
            self._check_may_write(name)
        return repository


def _tree_entry(path: str, file: StoredFile) -> dict[str, Any]:
    entry = {"type": "file", "path": path, "size": len(file.content), "oid": file.oid}
    return entry | ({"lfs": {"oid": file.oid, "size": len(file.content), "pointerSize": 130}} if file.lfs else {})


_NAME = r"(?P<name>[^/]+/[^/]+)"
_ROUTES = [
    ("create", "POST", "/api/repos/create"),
    ("validate", "POST", "/api/validate-yaml"),
    ("branch", "POST", rf"/api/models/{_NAME}/branch/(?P<branch>[^/]+)"),
    ("preupload", "POST", rf"/api/models/{_NAME}/preupload/(?P<revision>[^/]+)"),
    ("lfs_batch", "POST", rf"/{_NAME}\.git/info/lfs/objects/batch"),
    ("lfs_upload", "PUT", rf"/lfs-storage/{_NAME}/(?P<oid>[0-9a-f]+)"),
    ("commit", "POST", rf"/api/models/{_NAME}/commit/(?P<revision>[^/]+)"),
    ("read", "GET", rf"/api/models/{_NAME}(?P<kind>)"),
    ("read", "GET", rf"/api/models/{_NAME}/(?P<kind>revision|tree)/(?P<revision>[^/]+)"),
    ("read", "GET HEAD", rf"/{_NAME}/(?P<kind>resolve)/(?P<revision>[^/]+)/(?P<path>.+)"),
]


class _Handler(BaseHTTPRequestHandler):
    """Takes requests off the wire and puts the answers of `hub` on it."""

    protocol_version = "HTTP/1.1"
    hub: HubStandIn

    def handle_request(self) -> None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ") or None
        try:
            status, answer, headers = self.hub.answer(self.command, urlsplit(self.path).path, token, self._body())
        except ConnectionAbortedError:
            self.close_connection = True
            return
        except HubRefusal as error:
            status, answer, headers = error.status, {"error": str(error)}, {"X-Error-Code": error.code}
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_POST = do_PUT = handle_request  # the names that http.server looks for

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def log_message(self, *_: Any) -> None:
        """Say nothing: a test that fails shows `hub.requests`."""

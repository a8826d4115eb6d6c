"""A Hugging Face Hub on 127.0.0.1, for tests of the code path of users: `datasets` and `huggingface_hub` over HTTP.

    with StandInHub() as hub:
        sha = hub.commit("datasets/acme/chat", {"README.md": b"...", "data/train.jsonl": b"..."})
        subprocess.run([...], env=hub.env(tmp_path))
        assert hub.fetched() == ["data/train.jsonl"]

It answers what a reader asks: the description of a repository, its tree, its references, its files (the big ones
through a redirect, as from LFS, and by ranges). It takes what a writer sends, with a token of `hub.owners`: a new
repository or branch, big files through LFS, and commits that name them. A route it does not know is noted in
`hub.unknown`, so that a test can say that a new release of the libraries calls something new.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from base64 import b64decode
from collections.abc import Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

Tree = dict[str, bytes]
_HIDDEN = (
    "HF_TOKEN", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE", "HF_DATASETS_CACHE",
    "HUGGING_FACE_HUB_TOKEN",
)  # fmt: skip
_API = re.compile(
    r"/api/(?P<kind>datasets|models)/(?P<id>[^/]+/[^/]+)(?:/(?P<verb>[a-z-]+)(?:/(?P<rev>[^/]+)(?:/(?P<path>.+))?)?)?"
)
_FILE = re.compile(r"/(?:(?P<kind>datasets)/)?(?P<id>[^/]+/[^/]+)/(?P<verb>resolve)/(?P<rev>[^/]+)/(?P<path>.+)")

_WRITE = re.compile(r"/api/datasets/(?P<id>[^/]+/[^/]+)/(?P<verb>preupload|commit|branch)/(?P<rev>[^/]+)")
_LFS = re.compile(r"/datasets/(?P<id>[^/]+/[^/]+)\.git/info/lfs/objects/(?P<verb>batch)(?P<rev>)")


def blob_id(data: bytes) -> str:
    """The id that git gives the content, which the Hub sends as the ETag of a small file."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass
class Repository:
    """The trees of a repository by commit, and its branches and tags."""

    trees: dict[str, Tree] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    private: bool = False
    gated: bool = False
    readers: tuple[str, ...] = ()
    messages: list[str] = field(default_factory=list)


@dataclass
class Fault:
    """What goes wrong with the next `times` requests whose `METHOD path` matches: a status, or `drop`, or `cut`."""

    pattern: re.Pattern[str]
    what: int | str
    times: int


class StandInHub:
    """The server, its repositories and what it was asked."""

    def __init__(self, *, big: tuple[str, ...] = (".parquet", ".gz", ".zst"), page: int = 1000) -> None:
        self.repositories: dict[str, Repository] = {}
        self.aliases: dict[str, str] = {}
        self.calls: list[tuple[str, str, int]] = []
        self.unknown: list[str] = []
        self.faults: list[Fault] = []
        self.owners: dict[str, tuple[str, ...]] = {}
        """The owners for whom a token may write."""
        self.read_only: set[str] = set()
        """The tokens that may write nothing."""
        self.blobs: dict[str, bytes] = {}
        """The big files that were uploaded, by their SHA-256, whether a commit names them or not."""
        self.big, self.page = big, page
        handler = type("BoundHandler", (_Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> StandInHub:
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def commit(self, name: str, files: Tree, *, ref: str = "main", tree: Tree | None = None, **flags: object) -> str:
        """The commit that adds `files` to `datasets/owner/name` (or `models/owner/name`), now at `ref`.

        They are added to what is there, or to `tree`.
        """
        repository = self.repositories.setdefault(name, Repository())
        for key, value in flags.items():
            setattr(repository, key, value)
        tree = {**(repository.trees.get(repository.refs.get(ref, ""), {}) if tree is None else tree), **files}
        listing = repr((len(repository.trees), sorted((path, blob_id(data)) for path, data in tree.items())))
        sha = hashlib.sha1(listing.encode()).hexdigest()
        repository.trees[sha] = tree
        repository.refs[ref] = sha
        return sha

    def files(self, name: str, ref: str = "main") -> Tree:
        """The files of a branch."""
        repository = self.repositories[name]
        return repository.trees[repository.refs[ref]]

    def fail(self, pattern: str, what: int | str, times: int = 1) -> None:
        """Let the next requests that match go wrong."""
        self.faults.append(Fault(re.compile(pattern), what, times))

    def fetched(self) -> list[str]:
        """The paths of the files whose content was sent, the card and metadata left out."""
        sent = (path for method, path, status in self.calls if method == "GET" and status in (200, 206))
        paths = [
            found[1]
            for found in (re.search(r"/(?:resolve|cdn)/(?:.*[0-9a-f]{40})/(.+)", path) for path in sent)
            if found
        ]
        return sorted({unquote(path) for path in paths} - {"README.md"})

    def env(self, home: Path, **more: str) -> dict[str, str]:
        """The environment for a subprocess: both libraries read it once, at import."""
        mine = {
            "HF_ENDPOINT": self.url, "HF_HOME": str(home / "hf"), "XDG_CACHE_HOME": str(home / "cache"),
            "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "HF_UPDATE_DOWNLOAD_COUNTS": "0", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", **more,
        }  # fmt: skip
        return {**{key: value for key, value in os.environ.items() if key not in _HIDDEN}, **mine}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: StandInHub

    def log_message(self, *arguments: object) -> None:
        return

    def do_GET(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        self.cut = False
        if not self.goes_wrong():
            self.route(urlsplit(self.path))

    do_HEAD = do_POST = do_PUT = do_GET

    def goes_wrong(self) -> bool:
        for fault in self.hub.faults:
            if fault.times and fault.pattern.search(f"{self.command} {unquote(self.path)}"):
                fault.times -= 1
                if fault.what == "drop":
                    self.close_connection = True
                    self.connection.close()
                    return True
                if fault.what == "cut":
                    self.cut = True
                    return False
                self.answer(int(fault.what), {"error": "injected"})
                return True
        return False

    def answer(self, status: int, body: bytes | list[object] | dict[str, object] = b"", **headers: str) -> None:
        self.hub.calls.append((self.command, self.path, status))
        if not isinstance(body, bytes):
            body, headers = json.dumps(body).encode(), {"Content_Type": "application/json", **headers}
        self.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status: int, code: str, message: str, **headers: str) -> None:
        self.answer(status, {"error": message}, X_Error_Code=code, X_Error_Message=message, **headers)

    def route(self, url: object) -> None:
        path = url.path  # type: ignore[attr-defined]
        if found := re.fullmatch(r"/cdn/(.+)/([0-9a-f]{40})/(.+)", path):
            data = self.hub.repositories[found[1]].trees[found[2]][unquote(found[3])]
            return self.send_file(data, found[2])
        if path == "/api/whoami-v2":
            return self.describe_user()
        for old, new in self.hub.aliases.items():
            if found := re.match(rf"(/api)?/{old}(?=/|$)", path):
                return self.answer(307, b"", Location=f"{found[1] or ''}/{new}{self.path[found.end() :]}")
        if self.command in ("POST", "PUT") and self.is_written(path):
            return None
        found = _API.fullmatch(path) or _FILE.fullmatch(path)
        if not found:
            if "/api/" in path and path.count("/") > 3:
                self.hub.unknown.append(path)
            return self.refuse(404 if self.token else 401, "RepoNotFound", "Repository not found")
        return self.in_repository(found, {key: value[0] for key, value in parse_qs(url.query).items()})  # type: ignore[attr-defined]

    def describe_user(self) -> None:
        owners = self.hub.owners.get(self.token)
        if owners is None:
            return self.answer(401, {"error": "Invalid user token."})
        role = "read" if self.token in self.hub.read_only else "write"
        return self.answer(200, {
            "name": "me", "orgs": [{"name": name} for name in owners], "auth": {"accessToken": {"role": role}},
        })  # fmt: skip

    def is_written(self, path: str) -> bool:
        """Whether the request was one of a writer, which is answered then."""
        if path == "/api/validate-yaml":
            self.answer(200, {"errors": [], "warnings": []})
        elif path == "/api/repos/create":
            self.create(json.loads(self.body))
        elif found := re.fullmatch(r"/lfs/([0-9a-f]{64})", path):
            self.hub.blobs[found[1]] = self.body
            self.answer(200)
        elif found := _LFS.fullmatch(path) or _WRITE.fullmatch(path):
            name = f"datasets/{found['id']}"
            if name not in self.hub.repositories:
                self.refuse(404, "RepoNotFound", "Repository not found")
            elif self.may_write(found["id"].partition("/")[0]):
                getattr(self, f"write_{found['verb']}")(name, unquote(found["rev"] or ""))
        else:
            return False
        return True

    def may_write(self, owner: str) -> bool:
        """Whether the token may write for the owner; if not, the request is refused."""
        if not self.token:
            self.answer(401, {"error": "Invalid username or password."})
        elif self.token in self.hub.read_only or owner not in self.hub.owners.get(self.token, ()):
            self.answer(403, {"error": f"You don't have the rights to write under the namespace {owner}"})
        else:
            return True
        return False

    def create(self, asked: dict[str, str]) -> None:
        name = f"datasets/{asked['organization']}/{asked['name']}"
        if not self.may_write(asked["organization"]):
            return None
        if name in self.hub.repositories:
            return self.answer(409, {"error": "You already created this dataset repo"})
        private = asked.get("visibility") == "private"
        self.hub.commit(name, {".gitattributes": b"*.parquet lfs\n"}, private=private, readers=(self.token,))
        return self.answer(200, {"url": f"{self.hub.url}/{name}"})

    def write_branch(self, name: str, branch: str) -> None:
        refs = self.hub.repositories[name].refs
        refs[branch] = refs["main"]
        self.answer(201)

    def write_preupload(self, name: str, revision: str) -> None:
        tree = self.hub.files(name, revision)
        self.answer(200, {"files": [
            {"path": path, "uploadMode": "lfs" if path.endswith(self.hub.big) else "regular", "shouldIgnore": False,
             "oid": self.object_id(path, tree[path]) if path in tree else None}
            for path in (file["path"] for file in json.loads(self.body)["files"])
        ]})  # fmt: skip

    def write_batch(self, name: str, revision: str) -> None:
        objects: list[object] = []
        for asked in json.loads(self.body)["objects"]:
            upload = {"actions": {"upload": {"href": f"{self.hub.url}/lfs/{asked['oid']}"}}}
            objects.append({**asked, **({} if asked["oid"] in self.hub.blobs else upload)})
        self.answer(200, {"transfer": "basic", "objects": objects})

    def write_commit(self, name: str, revision: str) -> None:
        repository = self.hub.repositories[name]
        head, *lines = ((line["key"], line["value"]) for line in map(json.loads, self.body.splitlines()))
        if head[1].get("parentCommit", repository.refs[revision]) != repository.refs[revision]:
            return self.answer(412, {"error": "A commit has happened since. Please refresh and try again."})
        tree = dict(self.hub.files(name, revision))
        for key, value in lines:
            if key == "deletedFile":
                del tree[value["path"]]
            else:
                lfs = key == "lfsFile"
                tree[value["path"]] = self.hub.blobs[value["oid"]] if lfs else b64decode(value["content"])
        repository.messages.append(head[1]["summary"])
        sha = self.hub.commit(name, {}, ref=revision, tree=tree)
        return self.answer(200, {"commitUrl": f"{self.hub.url}/{name}/commit/{sha}", "commitOid": sha})

    def object_id(self, path: str, data: bytes) -> str:
        return hashlib.sha256(data).hexdigest() if path.endswith(self.hub.big) else blob_id(data)

    def in_repository(self, found: re.Match[str], query: dict[str, str]) -> None:
        name = f"{found['kind'] or 'models'}/{found['id']}"
        repository = self.hub.repositories.get(name)
        readable = repository and (self.token in repository.readers)
        if repository is None or (repository.private and not readable):
            return self.refuse(404 if self.token else 401, "RepoNotFound", "Repository not found")
        if repository.gated and found["verb"] == "resolve" and not readable:
            return self.refuse(403 if self.token else 401, "GatedRepo", f"Access to {found['id']} is restricted.")
        if found["verb"] == "refs":
            return self.references(repository)
        revision = unquote(found["rev"] or "main")
        sha = repository.refs.get(revision, revision if revision in repository.trees else None)
        if sha is None:
            return self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        path = unquote(found["path"] or "")
        return self.in_commit(found["verb"] or "revision", name, sha, path, query)

    def in_commit(self, verb: str, name: str, sha: str, path: str, query: dict[str, str]) -> None:
        repository = self.hub.repositories[name]
        tree = repository.trees[sha]
        if verb == "revision":
            return self.describe(name, repository, sha)
        if verb == "tree":
            return self.list_tree(tree, path, query)
        if verb == "paths-info":
            asked = parse_qs(self.body.decode()).get("paths", [])
            return self.answer(200, [self.entry(one, tree[one]) for one in asked if one in tree])
        if verb == "resolve":
            return self.resolve(name, sha, tree, path)
        self.hub.unknown.append(self.path)
        return self.refuse(404, "", "no such route")

    def references(self, repository: Repository) -> None:
        branches = [
            {"name": name, "ref": f"refs/heads/{name}", "targetCommit": sha} for name, sha in repository.refs.items()
        ]
        self.answer(200, {"branches": branches, "converts": [], "tags": []})

    def describe(self, name: str, repository: Repository, sha: str) -> None:
        tree = repository.trees[sha]
        metadata = re.match(rb"---\n.*?license: ([\w.-]+)\n.*?---", tree.get("README.md", b""), re.DOTALL)
        card = {"license": metadata[1].decode()} if metadata else {}
        self.answer(200, {
            "id": name.partition("/")[2], "sha": sha, "private": repository.private, "cardData": card, "tags": [],
            "gated": "auto" if repository.gated else False, "siblings": [{"rfilename": path} for path in sorted(tree)],
        })  # fmt: skip

    def entry(self, path: str, data: bytes) -> dict[str, object]:
        entry: dict[str, object] = {"type": "file", "path": path, "size": len(data), "oid": blob_id(data)}
        if path.endswith(self.hub.big):
            entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
        return entry

    def list_tree(self, tree: Tree, path: str, query: dict[str, str]) -> None:
        prefix = f"{path.rstrip('/')}/" if path else ""
        deep = query.get("recursive", "").lower() == "true"
        below = [name for name in sorted(tree) if name.startswith(prefix)]
        if path and not below:
            return self.refuse(404, "EntryNotFound", f"{path} does not exist")
        folders = sorted(set(_folders(below, len(prefix), deep)))
        entries: list[object] = [{"type": "directory", "path": name, "size": 0, "oid": "0" * 40} for name in folders]
        entries += [self.entry(name, tree[name]) for name in below if deep or "/" not in name[len(prefix) :]]
        start = int(query.get("cursor", 0))
        stop = start + self.hub.page
        here = f"{self.hub.url}{self.path.split('?')[0]}?recursive={str(deep).lower()}"
        more = {"Link": f'<{here}&cursor={stop}>; rel="next"'} if stop < len(entries) else {}
        return self.answer(200, entries[start:stop], **more)

    def resolve(self, name: str, sha: str, tree: Tree, path: str) -> None:
        if path not in tree:
            return self.refuse(404, "EntryNotFound", "Entry not found", X_Repo_Commit=sha)
        if not path.endswith(self.hub.big):
            return self.send_file(tree[path], sha)
        return self.answer(
            302, b"", X_Repo_Commit=sha, X_Linked_Size=str(len(tree[path])), Accept_Ranges="bytes",
            X_Linked_Etag=f'"{hashlib.sha256(tree[path]).hexdigest()}"',
            Location=f"{self.hub.url}/cdn/{name}/{sha}/{quote(path)}",
        )  # fmt: skip

    def send_file(self, data: bytes, sha: str) -> None:
        head = {"ETag": f'"{blob_id(data)}"', "X_Repo_Commit": sha, "Accept_Ranges": "bytes"}
        if self.cut and self.command == "GET":
            self.close_connection = True
            return self.answer(200, data[: len(data) // 2], Content_Length=str(len(data)), **head)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if not asked:
            return self.answer(200, data, **head)
        start, stop = int(asked[1]), min(int(asked[2] or len(data)), len(data) - 1)
        if start >= len(data):
            return self.answer(416, b"", Content_Range=f"bytes */{len(data)}")
        return self.answer(206, data[start : stop + 1], Content_Range=f"bytes {start}-{stop}/{len(data)}", **head)


def _folders(paths: Iterable[str], start: int, deep: bool) -> Iterable[str]:
    for path in paths:
        parts = path[start:].split("/")
        for count in range(1, len(parts) if deep else min(len(parts), 2)):
            yield path[:start] + "/".join(parts[:count])

"""A hub on a loopback port: the few endpoints that creating, committing, listing and downloading ask for."""

import base64
import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

MISSING = {"X-Error-Code": "RepoNotFound"}, {"X-Error-Code": "RevisionNotFound"}


class Hub:
    """Repositories by id, each the files of its one commit; runs inside `with Hub() as hub:`."""

    def __init__(self):
        self.repos: dict[str, dict[str, bytes]] = {}
        self.downloaded: list[str] = []
        self.claimed_sizes: dict[str, int] = {}  # what the listing gives instead of the true sizes

    def __enter__(self):
        class Handler(_Handler):
            hub = self

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def commit(self, repo):
        return hashlib.sha1(repr(sorted(self.repos[repo].items())).encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, format, *args):
        pass

    def answer(self, body, *, status=200, headers=()):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **dict(headers)}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_POST(self):
        content = self.rfile.read(int(self.headers["Content-Length"]))
        words = self.path.split("?")[0].strip("/").split("/")
        match words:
            case ["api", "repos", "create"]:
                fields = json.loads(content)
                repo = f"{fields['organization']}/{fields['name']}"
                self.hub.repos.setdefault(repo, {})
                self.answer({"url": f"{self.hub.url}/{repo}", "name": repo, "id": repo})
            case ["api", "validate-yaml"]:
                self.answer({"errors": [], "warnings": []})
            case ["api", "models", user, name, "preupload", _]:
                paths = [file["path"] for file in json.loads(content)["files"]]
                modes = [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in paths]
                self.answer({"files": modes})
            case ["api", "models", user, name, "commit", _]:
                repo = f"{user}/{name}"
                for entry in map(json.loads, content.splitlines()):
                    if entry["key"] == "file":
                        self.hub.repos[repo][entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
                commit = self.hub.commit(repo)
                self.answer(
                    {"commitUrl": f"{self.hub.url}/{repo}/commit/{commit}", "commitOid": commit, "success": True}
                )
            case _:
                self.answer({"error": self.path}, status=500)

    def do_GET(self):
        words = self.path.split("?")[0].strip("/").split("/")
        user, name = words[2:4] if words[0] == "api" else words[:2]
        repo = f"{user}/{name}"
        if repo not in self.hub.repos:
            return self.answer({"error": "Repository not found"}, status=404, headers=MISSING[0])
        files, commit = self.hub.repos[repo], self.hub.commit(repo)
        revision = words[5] if words[0] == "api" and len(words) > 5 else "main" if words[0] == "api" else words[3]
        if revision not in ("main", commit):
            return self.answer({"error": "Invalid rev id"}, status=404, headers=MISSING[1])
        sizes = {path: self.hub.claimed_sizes.get(path, len(content)) for path, content in files.items()}
        match words:
            case ["api", "models", _, _, "tree", _]:
                tree = [{"type": "file", "path": path, "size": size, "oid": path} for path, size in sizes.items()]
                self.answer(tree)
            case ["api", "models", _, _, *_]:
                siblings = [{"rfilename": path, "size": size} for path, size in sizes.items()]
                self.answer({"id": repo, "sha": commit, "siblings": siblings})
            case [_, _, "resolve", _, path]:
                if self.command == "GET":
                    self.hub.downloaded.append(path)
                etag = hashlib.sha1(files[path]).hexdigest()
                self.answer(files[path], headers={"X-Repo-Commit": commit, "ETag": f'"{etag}"'})
            case _:
                self.answer({"error": self.path}, status=500)

    do_HEAD = do_GET  # noqa: N815

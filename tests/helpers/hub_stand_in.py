"""A stand-in for a model hub on this machine: it takes what ``huggingface_hub`` sends, and keeps it."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_stand_in"
LARGE = (".zip",)  # go up on their own before the commit, as large files do


class HubStandIn:
    """What was asked of the hub, and the files of each commit."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, str | None]] = []  # method, path, token
        self.repositories: dict[str, bool] = {}  # name → private
        self.commits: list[dict[str, bytes]] = []
        self.uploaded: dict[str, bytes] = {}  # large files by SHA-256
        self.yaml_errors: list[str] = []
        self.address = ""

    def answer(self, path: str, body: bytes, token: str | None) -> tuple[int, Any]:
        if token != f"Bearer {TOKEN}":
            return 401, {"error": "Invalid username or password."}
        if path == "/api/validate-yaml":
            errors = [{"message": text} for text in self.yaml_errors]
            return (400 if errors else 200), {"errors": errors, "warnings": []}
        if path == "/api/repos/create":
            told = json.loads(body)
            name = f"{told.get('organization') or 'me'}/{told['name']}"
            status = 409 if name in self.repositories else 200
            self.repositories.setdefault(name, told.get("private") or told.get("visibility") == "private")
            return status, {"url": f"{self.address}/{name}"}
        if found := re.fullmatch(r"/api/models/(.+)/preupload/main", path):
            names = [file["path"] for file in json.loads(body)["files"]]
            modes = [{"path": n, "uploadMode": "lfs" if n.endswith(LARGE) else "regular"} for n in names]
            return 200, {"files": [{**mode, "shouldIgnore": False} for mode in modes]}
        if path.endswith("/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            upload = [{"href": f"{self.address}/upload/{one['oid']}"} for one in objects]
            rows = [
                {**o, "authenticated": True, "actions": {"upload": u}} for o, u in zip(objects, upload, strict=True)
            ]
            return 200, {"transfer": "basic", "objects": rows}
        if found := re.fullmatch(r"/api/models/(.+)/commit/main", path):
            self._commit([json.loads(line) for line in body.splitlines()])
            return 200, {"commitUrl": f"{self.address}/{found[1]}/commit/0a1b2c", "commitOid": "0a1b2c"}
        return 404, {"error": f"no such place: {path}"}

    def _commit(self, lines: list[dict[str, Any]]) -> None:
        files = {}
        for line in lines[1:]:
            value = line["value"]
            large = line["key"] == "lfsFile"
            files[value["path"]] = self.uploaded[value["oid"]] if large else base64.b64decode(value["content"])
        self.commits.append(files)


@contextmanager
def hub_stand_in() -> Iterator[HubStandIn]:
    """A hub at ``address`` while the block runs."""
    hub = HubStandIn()

    class Handler(BaseHTTPRequestHandler):
        def _take(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            token = self.headers.get("Authorization")
            hub.requests.append((self.command, self.path, token))
            if self.command == "PUT" and self.path.startswith("/upload/"):
                hub.uploaded[self.path.rpartition("/")[2]] = body
                status, content = 200, {}
            else:
                status, content = hub.answer(self.path, body, token)
            answer = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = do_PUT = _take  # noqa: N815

        def log_message(self, *args: Any) -> None:
            """Nothing on standard error."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

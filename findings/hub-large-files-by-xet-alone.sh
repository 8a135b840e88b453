#!/usr/bin/env bash
# huggingface_hub sends large files by Xet alone: a hub that answers "lfs" to the preupload, as hubs of one's own do, is
# not asked for its Git LFS addresses (POST /REPO.git/info/lfs/objects/batch). The client goes straight for a token of
# Xet's storage, and where the hub has none the upload fails; nothing falls back to LFS.
#
# The first request of a process is none that the program asked for: GET /api/agent-harnesses, without the token, for
# the User-Agent header. A hub's test that counts requests sees it (once a day: the answer is kept in HF_HOME).
#
# Cure: HF_HUB_DISABLE_XET=1, set before huggingface_hub is imported; then the file goes by LFS.
#
# Seen with Python 3.11.7, Linux x86_64, on 2026-11-29. Fails if any of it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
PATH="$folder/venv/bin:$PATH"
export PIP_DISABLE_PIP_VERSION_CHECK=1 HF_HUB_DISABLE_PROGRESS_BARS=1
pip install -q huggingface_hub==2.4.0

cat > "$folder/hub.py" <<'PY'
import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

asked = []


class Hub(BaseHTTPRequestHandler):
    """A hub of one's own, which takes large files by Git LFS and knows no Xet."""

    def answer(self):
        path, body = self.path, self.rfile.read(int(self.headers.get("Content-Length", 0)))
        asked.append(f"{self.command} {re.sub('[0-9a-f]{64}', 'SHA', path)}")
        here, found = f"http://127.0.0.1:{self.server.server_port}", None
        if path.endswith("/preupload/main"):
            found = {"files": [{"path": "model.bin", "uploadMode": "lfs", "shouldIgnore": False}]}
        elif path.endswith("/objects/batch"):
            objects = json.loads(body)["objects"]
            ways = [{**one, "actions": {"upload": {"href": f"{here}/upload/{one['oid']}"}}} for one in objects]
            found = {"transfer": "basic", "objects": ways}
        elif self.command == "PUT":
            found = {}
        elif path.endswith("/commit/main"):
            found = {"commitUrl": f"{here}/me/agent/commit/0", "commitOid": "0"}
        text = json.dumps(found or {"error": "no such place"}).encode()
        self.send_response(404 if found is None else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_PUT = answer

    def log_message(self, *args):
        pass


upload = """
from huggingface_hub import HfApi
try:
    HfApi(token="hf_x").upload_file(path_or_fileobj=b"0" * 1000, path_in_repo="model.bin", repo_id="me/agent")
    print("sent")
except Exception:
    print("failed")
"""
server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
threading.Thread(target=server.serve_forever, daemon=True).start()
for xet in ("0", "1"):
    asked.clear()
    home = os.path.join(sys.argv[1], xet)
    environ = {**os.environ, "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": home}
    environ["HF_HUB_DISABLE_XET"] = xet
    run = subprocess.run([sys.executable, "-c", upload], env=environ, capture_output=True, text=True, timeout=120)
    print(f"HF_HUB_DISABLE_XET={xet}: {run.stdout.strip()}")
    for line in dict.fromkeys(asked):
        print(f"  {line}")
PY
seen=$(python "$folder/hub.py" "$folder")
echo "$(python -c 'import platform, huggingface_hub; print("Python", platform.python_version(), "huggingface_hub", huggingface_hub.__version__)')"
echo "$seen"
expected="HF_HUB_DISABLE_XET=0: failed
  GET /api/agent-harnesses
  POST /api/models/me/agent/preupload/main
  GET /api/models/me/agent/xet-write-token/main
HF_HUB_DISABLE_XET=1: sent
  GET /api/agent-harnesses
  POST /api/models/me/agent/preupload/main
  POST /me/agent.git/info/lfs/objects/batch
  PUT /upload/SHA
  POST /api/models/me/agent/commit/main"
[[ $seen == "$expected" ]] || { echo "CHANGED" >&2; exit 1; }

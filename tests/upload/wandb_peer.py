"""A server on the loopback that speaks as much of Weights & Biases' protocol as its client needs.

It keeps what arrives, run by run, and can answer with faults. Field names are those of the requests
that the real client sends.
"""

import base64
import json
import math
import re
import socket
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "0123456789abcdef" * 2 + "feedface"
"""A key of the form that the client demands."""
ENTITY = "someone"


@dataclass
class Received:
    """What the server knows of one run."""

    name: str
    project: str
    config: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    history: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    summary: str = "{}"
    files: dict[str, bytes] = field(default_factory=dict)
    exit_codes: list[int] = field(default_factory=list)
    upserts: int = 0

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The history, a row a dictionary, as the server would keep it."""
        return [json.loads(line) for line in self.history]

    @property
    def values(self) -> dict[str, Any]:
        """The configuration without the client's own part."""
        return {k: v["value"] for k, v in self.config.items() if k != "_wandb"}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_arguments: object) -> None:
        """A client that leaves in the middle is no error here."""


class Peer:
    """The server; a context manager.

    ``fault`` is None or how requests are answered from now on: an HTTP status, "drop" or "hang"; those to
    paths with ``only`` in them, and no more than ``most`` of them.
    """

    def __init__(self) -> None:
        self.runs: dict[str, Received] = {}
        self.operations: Counter[str] = Counter()
        self.fault: int | str | None = None
        self.only, self.most, self.faults = "", math.inf, 0
        self.keys: set[str] = set()
        self.artifact: dict[str, Any] = {}
        self.artifact_files: dict[str, bytes] = {}
        self.lock = threading.Lock()
        self.released = threading.Event()
        peer = self

        class Handler(_Handler):
            server_of = peer

        self.server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> "Peer":
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()

    def reset(self) -> None:
        """Forget all runs and faults; requests that hang are let go."""
        self.released.set()
        self.runs.clear()
        self.operations.clear()
        self.keys.clear()
        self.artifact.clear()
        self.artifact_files.clear()
        self.fault, self.faults, self.only, self.most = None, 0, "", math.inf
        self.released = threading.Event()

    @property
    def run(self) -> Received:
        """The only run."""
        [run] = self.runs.values()
        return run

    def environment(self) -> dict[str, str]:
        """What makes a client talk to this server."""
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": KEY, "NO_PROXY": "127.0.0.1"}


class _Handler(BaseHTTPRequestHandler):
    server_of: Peer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PUT = do_GET

    def _serve(self) -> None:
        peer = self.server_of
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if peer.fault is not None and peer.only in self.path and peer.faults < peer.most:
            self._fail(peer)
            return
        scheme, _, credentials = (self.headers.get("Authorization") or "").partition(" ")
        if scheme == "Basic":
            peer.keys.add(base64.b64decode(credentials).decode().partition(":")[2])
        with peer.lock:
            status, answer = self._answer(peer, body)
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _fail(self, peer: Peer) -> None:
        peer.faults += 1
        if peer.fault == "hang":
            peer.released.wait(120)
        if isinstance(peer.fault, int):
            self.send_response(peer.fault)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _answer(self, peer: Peer, body: bytes) -> tuple[int, Any]:
        if self.path == "/graphql":
            request = json.loads(body)
            return 200, {"data": _graphql(peer, request["query"], request.get("variables") or {})}
        if found := re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path):
            _stream(peer.runs[found[1]], json.loads(body))
            return 200, {}
        if found := re.fullmatch(r"/artifact/(.*)", self.path):
            peer.artifact_files[found[1]] = body
            return 200, {}
        if found := re.fullmatch(r"/upload/([^/]+)/(.*)", self.path):
            peer.runs[found[1]].files[found[2]] = body
            return 200, {}
        return 404, {}


def _stream(run: Received, content: dict[str, Any]) -> None:
    for name, part in (content.get("files") or {}).items():
        if name == "wandb-history.jsonl":
            run.history[part["offset"] :] = part["content"]
        elif name == "wandb-events.jsonl":
            run.events[part["offset"] :] = part["content"]
        elif name == "wandb-summary.json":
            run.summary = part["content"][-1]
    if content.get("complete"):
        run.exit_codes.append(content["exitcode"])


def _graphql(peer: Peer, query: str, variables: dict[str, Any]) -> dict[str, Any]:
    name = re.search(r"(?:query|mutation)\s+(\w+)", query)
    operation = name[1] if name else "?"
    peer.operations[operation] += 1
    match operation:
        case "Viewer" | "ServerInfo":
            viewer = {"id": "1", "entity": ENTITY, "username": ENTITY, "flags": "{}"}
            viewer["teams"] = {"edges": []}
            return {"viewer": viewer, "serverInfo": {}}
        case "UpsertBucket":
            return _upsert(peer, variables)
        case "RunResumeStatus":
            return _resume(peer, variables)
        case "CreateRunFiles":
            return _files(peer, variables)
        case "ServerFeaturesQuery":
            return {"serverInfo": {"features": []}}
        case "ArtifactType":
            return {"project": {"artifact": None}}
    return _artifact(peer, operation, variables)


def _upsert(peer: Peer, variables: dict[str, Any]) -> dict[str, Any]:
    name, project = variables["name"], variables.get("project") or "uncategorized"
    new = name not in peer.runs
    run = peer.runs.setdefault(name, Received(name, project))
    run.upserts += 1
    run.settings |= {k: v for k, v in variables.items() if v is not None}
    if variables.get("config"):
        run.config = json.loads(variables["config"])
    owner = {
        "id": "2",
        "name": project,
        "entity": {"id": "3", "name": variables.get("entity") or ENTITY},
    }
    bucket = {
        "id": f"run-{name}",
        "name": name,
        "displayName": variables.get("displayName") or name,
        "description": None,
        "config": json.dumps(run.config),
        "sweepName": None,
        "project": owner,
        "historyLineCount": len(run.history),
    }
    return {"upsertBucket": {"bucket": bucket, "inserted": new}}


def _resume(peer: Peer, variables: dict[str, Any]) -> dict[str, Any]:
    run = peer.runs.get(variables["name"])
    if run is None:
        return {"model": {"id": "2", "name": variables["project"], "bucket": None}}
    tail = json.dumps(run.history[-1:])
    bucket = {
        "name": run.name,
        "id": f"run-{run.name}",
        "summaryMetrics": run.summary,
        "displayName": run.settings.get("displayName"),
        "logLineCount": 0,
        "historyLineCount": len(run.history),
        "eventsLineCount": len(run.events),
        "historyTail": tail,
        "eventsTail": "[]",
        "config": json.dumps(run.config),
        "tags": run.settings.get("tags") or [],
        "wandbConfig": json.dumps({"t": 1}),
    }
    owner = {"id": "2", "name": run.project, "entity": {"id": "3", "name": ENTITY}}
    return {"model": {**owner, "bucket": bucket}}


def _files(peer: Peer, variables: dict[str, Any]) -> dict[str, Any]:
    run = variables["run"]
    files = [
        {"name": name, "uploadUrl": f"{peer.url}/upload/{run}/{name}"}
        for name in variables["files"]
    ]
    return {"createRunFiles": {"runID": f"run-{run}", "uploadHeaders": [], "files": files}}


def _artifact(peer: Peer, operation: str, variables: dict[str, Any]) -> dict[str, Any]:
    """The steps of an artifact: made, its manifest, its files, the manifest anew, committed."""
    url, given = f"{peer.url}/artifact", variables.get("input") or variables
    match operation:
        case "CreateArtifact":
            peer.artifact |= {k: v for k, v in given.items() if v is not None}
            sequence = {"id": "s", "latestArtifact": None}
            made = {"id": "a", "state": "PENDING", "artifactSequence": sequence}
            return {"createArtifact": {"artifact": made}}
        case "CreateArtifactManifest" | "UpdateArtifactManifest":
            file = {"id": "f", "name": "manifest", "displayName": "manifest", "uploadHeaders": []}
            file["uploadUrl"] = f"{url}/manifest"
            manifest = {"artifactManifest": {"id": "m", "file": file}}
            return {operation[0].lower() + operation[1:]: manifest}
        case "CreateArtifactFiles":
            nodes = [
                {
                    "id": spec["name"],
                    "name": spec["name"],
                    "displayName": spec["name"],
                    "uploadUrl": f"{url}/{spec['name']}",
                    "uploadHeaders": [],
                    "uploadMultipartUrls": None,
                    "storagePath": spec["name"],
                    "artifact": {"id": "a"},
                }
                for spec in given["artifactFiles"]
            ]
            files = {"edges": [{"node": node} for node in nodes]}
            return {"createArtifactFiles": {"files": files}}
        case "CommitArtifact":
            peer.artifact["committed"] = True
            return {"commitArtifact": {"artifact": {"id": "a", "digest": "d"}}}
    raise NotImplementedError(operation)

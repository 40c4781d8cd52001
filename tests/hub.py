"""A small Hugging Face hub over HTTP, with the endpoints that the file system of huggingface_hub uses."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit


@contextmanager
def serve(repositories: dict[str, dict[str, Path]], requests: list[str] | None = None) -> Iterator[str]:
    """Run a hub and yield its endpoint.

    repositories: {"org/name": {revision: folder}}. requests: a list that receives the method and the path of each
    request.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            if requests is not None:
                requests.append(f"{self.command} {path}")
            self.answer(*respond(repositories, path))

        def answer(self, status: int, body: bytes, error: str = "") -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            for name in ("ETag", "X-Repo-Commit"):
                self.send_header(name, '"0"')
            if error:
                self.send_header("X-Error-Code", error)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def respond(repositories: dict[str, dict[str, Path]], path: str) -> tuple[int, bytes, str] | tuple[int, bytes]:
    """Return the status, the body and the error code of the hub for the path of a request."""
    api = path.startswith("/api/models/")
    parts = path.removeprefix("/api/models").strip("/").split("/")
    name, (action, revision, *below) = "/".join(parts[:2]), parts[2:] or ["revision", "main"]
    if name not in repositories:
        return 404, b"{}", "RepoNotFound"
    if revision not in repositories[name]:
        return 404, b"{}", "RevisionNotFound"
    folder = repositories[name][revision]
    if api and action == "revision":
        return 200, json.dumps({"id": name, "sha": revision, "siblings": []}).encode()
    if api and action == "tree":
        files = [
            {"type": "file", "oid": "0", "size": f.stat().st_size, "path": f.name} for f in sorted(folder.iterdir())
        ]
        return 200, json.dumps(files).encode()
    file = folder.joinpath(*below)
    if api or action != "resolve" or not file.is_file():
        return 404, b"{}", "EntryNotFound"
    return 200, file.read_bytes()

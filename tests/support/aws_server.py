"""As much of S3 and CodeArtifact as fetching source and packages takes: `python3 aws_server.py FOLDER`.

Every path is a file in the folder, a bucket being a folder of its own. Requests must be signed, or get 403; unknown
paths get 404. What lies below `pypi` needs no signature, and a folder there is its index.html. Standard library only.
"""

import hashlib
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(sys.argv[1])
ERROR = "<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}</Message></Error>"


class Files(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """A file, or why not."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = ROOT / self.path.partition("?")[0].lstrip("/")
        path = path / "index.html" if path.is_dir() else path
        open_to_all = self.path.startswith("/pypi/")
        if not open_to_all and "AWS4-HMAC-SHA256" not in self.headers.get("Authorization", ""):
            self.answer(403, ERROR.format(code="AccessDenied").encode())
        elif not path.is_file():
            self.answer(404, ERROR.format(code="NoSuchKey").encode())
        else:
            self.answer(200, path.read_bytes())

    do_HEAD = do_GET  # noqa: N815 - the server's name for it
    do_POST = do_GET  # noqa: N815 - the server's name for it

    def answer(self, status: int, body: bytes) -> None:
        """Status, headers and, but for HEAD, the body."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "text/html" if self.path.endswith("/") else "application/octet-stream")
        self.send_header("ETag", f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"')
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 9000), Files)
    print("listening", flush=True)
    server.serve_forever()

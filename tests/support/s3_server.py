"""As much of S3 as fetching an object takes: `python3 s3_server.py FOLDER`, buckets are the folders in it.

Answers signed HEAD and GET requests in path style on port 9000; others get 403, unknown keys 404. Needs the standard
library alone.
"""

import hashlib
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(sys.argv[1])
ERROR = "<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}</Message></Error>"


class Objects(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """An object, or why not."""
        path = ROOT / self.path.partition("?")[0].lstrip("/")
        if "AWS4-HMAC-SHA256" not in self.headers.get("Authorization", ""):
            self.answer(403, ERROR.format(code="AccessDenied").encode())
        elif not path.is_file():
            self.answer(404, ERROR.format(code="NoSuchKey").encode())
        else:
            self.answer(200, path.read_bytes())

    do_HEAD = do_GET  # noqa: N815 - the server's name for it

    def answer(self, status: int, body: bytes) -> None:
        """Status, headers and, for GET, the body."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"')
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 9000), Objects)
    print("listening", flush=True)
    server.serve_forever()

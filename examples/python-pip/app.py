"""Serves one page that names the package it was installed with."""

import http.server

import six


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"six {six.__version__}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Page).serve_forever()

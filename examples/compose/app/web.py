"""Takes numbers by POST /work, tells by GET /done what became of them."""

import http.server
import json

import psycopg2
import redis

todo = redis.Redis(host="cache")
password = open("/run/secrets/password").read().rstrip("\n")


def done():
    with psycopg2.connect(host="database", user="postgres", password=password) as connection, connection.cursor() as cursor:
        cursor.execute("select to_regclass('result')")
        if cursor.fetchone()[0] is None:
            return {}
        cursor.execute("select number, square from result order by number")
        return dict(cursor.fetchall())


class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, status, text):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(text.encode() + b"\n")

    def do_GET(self):
        self.answer(200, json.dumps(done()))

    def do_POST(self):
        number = int(self.rfile.read(int(self.headers["Content-Length"])))
        todo.rpush("work", number)
        self.answer(202, str(number))


http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()

"""An HTTP proxy before an S3 server, with latency and faults, which counts the requests."""

import http.client
import threading
import time
import zlib
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ANSWERS = {
    "500": (500, b""),
    "503": (503, b"<Error><Code>SlowDown</Code></Error>"),
    "429": (429, b""),
    "403": (403, b"<Error><Code>AccessDenied</Code></Error>"),
    "wrong key": (
        403,
        b"<Error><Code>InvalidAccessKeyId</Code><AWSAccessKeyId>AKIASECRET</AWSAccessKeyId>"
        b"</Error>",
    ),
}
"""Faults that are answers. The others break the connection."""
PASSING = ("500", "503", "429", "reset", "cut")
"""Faults that go away."""


class FlakyServer(ThreadingHTTPServer):
    """A proxy that answers on a port of its own.

    Attributes
    ----------
    latency : float
        Seconds before each answer.
    fault : callable
        Called with the path and the number of its requests so far; returns the name of a fault, or
        an empty string.
    requests : Counter
        Number of requests by method and path.
    failed : int
        Number of requests that met a fault.
    most_at_once : int
        Most requests that waited for their answers at once.
    """

    daemon_threads = True
    request_queue_size = 512

    def __init__(self, upstream):
        super().__init__(("127.0.0.1", 0), Handler)
        self.upstream = upstream
        self.lock, self.answers = threading.Lock(), {}
        self.calm()
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def calm(self):
        """Forget the counts, and answer everything at once."""
        self.latency, self.fault = 0.0, lambda path, number: ""
        self.requests, self.failed = Counter(), 0
        self.waiting = self.most_at_once = 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def of_chunks(self, method="GET"):
        """Requests for chunks, by path."""
        return {
            path: number
            for (verb, path), number in self.requests.items()
            if verb == method and "/c/" in path
        }

    def answer(self, method, path, headers):
        key = (method, path, headers.get("Range"))
        if key not in self.answers:
            wanted = {name: value for name, value in headers.items() if name != "Connection"}
            upstream = http.client.HTTPConnection("127.0.0.1", self.upstream)
            upstream.request(method, path, headers=wanted)
            found = upstream.getresponse()
            body = found.read()
            upstream.close()
            if found.status not in (200, 206):
                return found.status, found.getheaders(), body
            self.answers[key] = found.status, found.getheaders(), body
        return self.answers[key]

    def handle_error(self, request, client_address):
        """Clients that leave early are no news."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 2**20

    def log_message(self, *args):
        """Print nothing."""

    def go(self):
        server, path = self.server, self.path
        with server.lock:
            number = server.requests[self.command, path]
            server.requests[self.command, path] += 1
            fault = server.fault(path, number)
            server.failed += bool(fault)
            server.waiting += 1
            server.most_at_once = max(server.most_at_once, server.waiting)
        if server.latency:
            time.sleep(server.latency)
        with server.lock:
            server.waiting -= 1
        if fault in ANSWERS:
            status, body = ANSWERS[fault]
            self.send(status, {}, body)
        elif fault == "reset":
            self.close_connection = True
        elif fault == "slow":
            time.sleep(3)
            self.close_connection = True
        else:
            status, headers, body = server.answer(self.command, path, self.headers)
            self.send(status, dict(headers), body, cut=fault == "cut")

    def send(self, status, headers, body, cut=False):
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                self.send_header(name, value)
        length = headers.get("Content-Length", 0) if self.command == "HEAD" else len(body)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        self.close_connection |= cut

    do_GET = do_HEAD = go


def some(share, faults=PASSING, at=0):
    """Return a function for `FlakyServer.fault`: request ``at`` of this share of the chunks fails,
    in all ways in turn.
    """

    def fault(path, number):
        digest = zlib.crc32(path.encode())
        fails = number == at and "/c/" in path and digest % 1000 < 1000 * share
        return faults[digest // 1000 % len(faults)] if fails else ""

    return fault

"""A server that answers every GET with the same body, in the place of a broker that is asked for its health."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

HEALTH = b'{"status": "ok", "version": "0.1.0"}'


class _Handler(BaseHTTPRequestHandler):
    body = HEALTH

    def do_GET(self) -> None:
        self.send_response(200 if self.path.endswith("/healthz") else 404)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def health_servers() -> Iterator[Callable[[bytes], str]]:
    """Yield a function that starts a server with a body, and returns its URL. All of them end with the context."""
    servers: list[HTTPServer] = []

    def start(body: bytes) -> str:
        server = HTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"body": body}))
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    try:
        yield start
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()

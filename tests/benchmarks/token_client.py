"""Clients of a token endpoint that cost little themselves: `python -m benchmarks.token_client PORT`.

Each line of the input is a body. It is sent often enough to stay within the rate of one lease. Prints a line of JSON:
when it began and ended, and the seconds of each request.
"""

import json
import socket
import sys
import time

REQUESTS = 100
"""For each body. A lease allows 120 at once."""


class TokenClient:
    """One connection that is kept.

    Args:
        port: on loopback.
    """

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def post(self, body: bytes) -> float:
        """Send a body as codex does, and read the answer. Returns the seconds; raises ValueError if it is no 200."""
        head = b"POST /oauth/token HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        began = time.perf_counter()
        self._socket.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._socket.recv(65536)
        head, _, rest = received.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split()[0])
        while len(rest) < length:
            rest += self._socket.recv(65536)
        seconds = time.perf_counter() - began
        if b" 200 " not in head.partition(b"\r\n")[0]:
            raise ValueError(head.partition(b"\r\n")[0])
        return seconds


def main() -> None:
    """Send every body of the input."""
    client = TokenClient(int(sys.argv[1]))
    bodies = [line.strip().encode() for line in sys.stdin if line.strip()]
    print("ready", flush=True)
    sys.stdin.close()
    began = time.time()
    times = [client.post(body) for body in bodies for _ in range(REQUESTS)]
    print(json.dumps({"began": began, "ended": time.time(), "times": times}))


if __name__ == "__main__":
    main()

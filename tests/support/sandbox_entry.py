"""Runs in a sandbox before the command: opens its loopback ports, and hands them to the test.

The arguments are the path of a unix socket, the ports with commas between them, and the command. A socket stays in the
network in which it was opened, whichever process accepts connections from it. So the sandbox reaches these ports, and
nothing else.

It imports nothing of the tests, because a sandbox has none of their files.
"""

import os
import socket
import sys


def main() -> None:
    """Open the ports, hand them over, and become the command."""
    place, ports, *command = sys.argv[1:]
    listeners = [socket.create_server(("127.0.0.1", int(port))) for port in ports.split(",")]
    with socket.socket(socket.AF_UNIX) as control:
        control.connect(place)
        socket.send_fds(control, [b"ports"], [listener.fileno() for listener in listeners])
        control.recv(1)
    for listener in listeners:
        listener.close()
    os.execv(command[0], command)


if __name__ == "__main__":
    main()

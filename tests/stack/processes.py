# SPDX-License-Identifier: Apache-2.0
"""What the programs of the stack have in common."""

import random
import socket

# Below what the kernel gives to outgoing connections: a port that one of them holds cannot be listened on.
PORTS = range(20000, 32000)


def free_port():
    """A port on loopback that nobody listens on; nobody else is kept from it."""
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def ends_with_us(command):
    """The command, run so that it is told to end when the tests are killed."""
    return ["setpriv", "--pdeathsig", "TERM", *command]

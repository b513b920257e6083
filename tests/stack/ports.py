# SPDX-License-Identifier: Apache-2.0
"""Ports for programs that cannot choose one themselves and tell."""

import socket


def free_port():
    """A port on loopback that nobody listens on; nobody else is kept from it, so use it soon."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]

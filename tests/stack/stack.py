# SPDX-License-Identifier: Apache-2.0
"""Synapse, Sluice and a reverse proxy, as an administrator would run them: real programs on loopback."""

from pathlib import Path

from harness import BINARY, Server
from homeserver import SERVER_NAME
from processes import ends_with_us
from proxies import Proxy


def sluice_beside(synapse, directory, **overrides):
    """A running Sluice that asks `synapse` who is asking."""
    directory = Path(directory)
    homeserver = {"server_name": SERVER_NAME, "client_api": synapse.url, **overrides.pop("homeserver", {})}
    command = ends_with_us([str(BINARY), "serve", "--config", str(directory / "sluice.yaml")])
    return Server(directory, command=lambda: command, homeservers=[homeserver], **overrides).start()


class Stack:
    """Everything at once, beside a Synapse that runs. What clients use as the homeserver's address is `url`."""

    def __init__(self, synapse, directory, proxy="nginx", **overrides):
        self.server_name = SERVER_NAME
        self.synapse = synapse
        self.sluice = sluice_beside(synapse, Path(directory) / "sluice", **overrides)
        try:
            self.proxy = Proxy(proxy, Path(directory) / proxy, synapse.port, self.sluice.port).start()
        except BaseException:
            self.sluice.discard()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.proxy.stop()
            self.sluice.stop()
        finally:
            self.sluice.discard()

    @property
    def url(self):
        return self.proxy.url

    @property
    def address(self):
        """Of the proxy: so that tests/e2e's client takes the stack for a server."""
        return self.proxy.address

    @property
    def bridge(self):
        return self.synapse.bridge

    def user(self, name, **options):
        return self.synapse.user(name, **options)

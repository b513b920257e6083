# SPDX-License-Identifier: Apache-2.0
"""Synapse, Sluice and a reverse proxy, as an administrator would run them: real programs on loopback."""

from pathlib import Path

from harness import Server
from proxies import Proxy
from homeserver import SERVER_NAME, Synapse

__all__ = ["SERVER_NAME", "Stack", "sluice_beside"]


def sluice_beside(synapse, directory, **overrides):
    """A running Sluice that asks `synapse` who is asking."""
    homeserver = {"server_name": SERVER_NAME, "client_api": synapse.url, **overrides.pop("homeserver", {})}
    return Server(directory, homeservers=[homeserver], **overrides).start()


class Stack:
    """Everything at once. What clients use as the homeserver's address is `url`."""

    def __init__(self, directory, proxy="nginx", synapse=None, **overrides):
        self.directory = Path(directory)
        self.server_name = SERVER_NAME
        self.synapse = synapse or Synapse(self.directory / "synapse")
        self._overrides = overrides
        self._kind = proxy
        self.sluice = None
        self.proxy = None

    def start(self):
        try:
            if self.synapse.process is None:
                self.synapse.start()
            self.sluice = sluice_beside(self.synapse, self.directory / "sluice", **self._overrides)
            self.proxy = Proxy(self._kind, self.directory / self._kind, self.synapse.port, self.sluice.port).start()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self):
        if self.proxy is not None:
            self.proxy.stop()
        if self.sluice is not None and self.sluice.alive:
            self.sluice.stop()
        self.synapse.stop()

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

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

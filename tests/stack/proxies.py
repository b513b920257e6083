# SPDX-License-Identifier: Apache-2.0
"""The reverse proxies, each with the configuration that deploy/ ships. Only addresses and TLS are replaced."""

import contextlib
import os
import re
import socket

from harness import REPOSITORY
from processes import Program

DEPLOY = REPOSITORY / "deploy"
KINDS = ("nginx", "caddy", "haproxy")
SYNAPSE = "127.0.0.1:8008"
SLUICE = "127.0.0.1:8090"

NGINX_MAIN = """
{user}
daemon off;
worker_processes 1;
pid {directory}/pid;
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
{shipped}
}}
"""


# A site as it may be before: it passes on everything, and its own location comes with ~, as Synapse's documentation has it.
NGINX_SITE = """
server {{
    listen 127.0.0.1:{port};
    server_name matrix.example.org;
{snippet}
    location / {{ return 200 '{{"who": "site"}}'; }}
    location ~ ^(/_matrix|/_synapse/client) {{ proxy_pass http://127.0.0.1:{synapse_port}; }}
}}
"""


def replaced(text, pattern, replacement):
    """Every match replaced; a pattern that fits nothing means that the shipped file has become another."""
    changed, count = re.subn(pattern, replacement, text, flags=re.MULTILINE)
    assert count, f"nothing in the shipped configuration looks like {pattern}"
    return changed


class Proxy(Program):
    """One proxy process on loopback, without TLS, in front of Synapse and Sluice.

    `change` changes the text once more, as the comments in the shipped file tell an administrator to.
    """

    def __init__(self, kind, directory, synapse_port, sluice_port, change=None):
        super().__init__(directory)
        self.kind = kind
        self._change = change or (lambda text: text)
        self.command = getattr(self, "_" + kind)(synapse_port, sluice_port)

    @property
    def address(self):
        return ("127.0.0.1", self.port)

    def _shipped(self, name, synapse_port, sluice_port):
        text = (DEPLOY / name).read_text()
        text = replaced(text, re.escape(SYNAPSE), f"127.0.0.1:{synapse_port}")
        return replaced(text, re.escape(SLUICE), f"127.0.0.1:{sluice_port}")

    def _write(self, name, text):
        (self.directory / name).write_text(self._change(text))
        return str(self.directory / name)

    def _snippet(self, synapse_port, sluice_port):
        snippet = replaced((DEPLOY / "nginx/sluice.conf").read_text(), re.escape(SLUICE), f"127.0.0.1:{sluice_port}")
        return self._nginx_main(NGINX_SITE.format(port=self.port, snippet=snippet, synapse_port=synapse_port))

    def _nginx(self, *ports):
        text = self._shipped("nginx/matrix.conf", *ports)
        text = replaced(text, r"^\s*ssl_.*;.*\n", "")
        text = replaced(text, r"^\s*listen \[::\].*;.*\n", "")
        return self._nginx_main(replaced(text, r"^(\s*)listen 443 .*;", rf"\1listen 127.0.0.1:{self.port};"))

    def _nginx_main(self, text):
        user = "user root;" if os.getuid() == 0 else ""
        main = NGINX_MAIN.format(directory=self.directory, user=user, shipped=text)
        return ["nginx", "-p", str(self.directory), "-e", "stderr", "-c", self._write("nginx.conf", main)]

    def _caddy(self, *ports):
        text = self._shipped("caddy/Caddyfile", *ports)
        text = replaced(text, r"^matrix\.example\.org\S* \{", f"http://:{self.port} {{\n\tbind 127.0.0.1")
        text = replaced(text, r"^\tadmin .*", "\tadmin off\n\tauto_https off")
        file = self._write("Caddyfile", text)
        return ["caddy", "run", "--adapter", "caddyfile", "--config", file]

    def _haproxy(self, *ports):
        text = self._shipped("haproxy/haproxy.cfg", *ports)
        text = replaced(text, r"^(\s*)bind .*ssl.*$", rf"\1bind 127.0.0.1:{self.port}")
        return ["haproxy", "-db", "-f", self._write("haproxy.cfg", text)]

    def start(self):
        self.run(self.command, self._accepts, timeout=20,
                 environment={"HOME": str(self.directory), "XDG_DATA_HOME": str(self.directory)})
        return self

    def _accepts(self):
        with contextlib.suppress(OSError), socket.create_connection(self.address, timeout=1):
            return True

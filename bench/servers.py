# SPDX-License-Identifier: Apache-2.0
"""The servers under test, each pinned to the server's core, in a folder of its own, with its limits lifted."""

import contextlib
import json
import os
import resource
import shutil
import socket
import subprocess
import urllib.request
from pathlib import Path

import place
import usage
from harness import TOKENS, Server, clean_environment, merged, wait_until
from homeserver import UNLIMITED, Synapse
from processes import free_port

# Creates and uploads come from many users, as they would: what counts a user's pending ids must not be measured with
# all of them in one hand.
USERS = [{"token": f"tok_bench_{number:03d}_a4c1", "user": f"@bench{number:03d}:example.org"}
         for number in range(64)]

LIFTED = {
    "homeservers": [{"server_name": "example.org", "tokens": TOKENS + USERS}],
    "http": {"threads": 1},
    "log": {"level": "warn"},
    "uploads": {"max_size": "2GiB", "max_pending_per_user": 100000000,
                "create_rate": {"per_second": 100000000, "burst": 100000000}},
    "downloads": {"default_wait": "10m", "max_wait": "10m", "max_waiting": 1000000,
                  "max_waiting_per_address": 1000000},
}


class Sluice(Server):
    """The harness's server, quiet: its port is chosen here, because at this log level it does not tell it."""

    name = "Sluice"

    def __init__(self, directory, command=None, **overrides):
        self.chosen = {"listen": f"127.0.0.1:{free_port()}", "metrics": {"listen": f"127.0.0.1:{free_port()}"}}
        super().__init__(directory, **merged(merged(LIFTED, self.chosen), overrides))
        program = command or usage.on_core(usage.SERVER_CORE, [place.BINARY])
        self.command = lambda: [*program, "serve", "--config", str(self.config_file)]

    def start(self, timeout=60):
        self.spawn()
        self.port = int(self.config["listen"].rsplit(":", 1)[1])
        self.metrics_port = int(self.config["metrics"]["listen"].rsplit(":", 1)[1])
        with ending(self):
            wait_until(lambda: self.has_ended() or answers(self.url + "/health"), "Sluice to answer", timeout)
        return self

    def has_ended(self):
        if self.process.poll() is not None:
            raise AssertionError(f"Sluice ended with {self.process.returncode}:\n{self.log()[-3000:]}")
        return False

    def processor_seconds(self):
        return usage.processor_seconds(self.pid)

    def end(self):
        """Without waiting for what is still stalled."""
        self.discard()


@contextlib.contextmanager
def ending(server):
    """If what is in it fails, the server is ended."""
    try:
        yield
    except BaseException:
        server.end()
        raise


def answers(url):
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as response:
        return response.status == 200


# As fast as nginx gets, each setting tried:
# - sendfile: as fast as without it for 10 KiB, and half the processor time for large files.
# - sendfile_max_chunk: with four readers 256k takes up to a fifth less processor time per GB than the default of 2m; with
#   a hundred readers and more it takes twice as much. So it is set for each case.
# - tcp_nopush: a packet less, and a fifth of the processor time, for small files; but it keeps nginx from setting
#   TCP_NODELAY, and then the end of a 64 KiB range waits 40 ms for a delayed ACK (7 MB/s instead of 530). So only the case
#   of small files has it.
# - multi_accept, and more workers on the one core, change nothing.
NGINX = """
daemon off;
user {user};
worker_processes 1;
worker_rlimit_nofile {descriptors};
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections {connections}; use epoll; }}
http {{
  access_log off;
  sendfile on;
  sendfile_max_chunk {piece};
  tcp_nopush {nopush};
  tcp_nodelay on;
  open_file_cache max=10000 inactive=1h;
  open_file_cache_valid 1h;
  open_file_cache_min_uses 1;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  reset_timedout_connection off;
  default_type application/octet-stream;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    root {folder}/root;
  }}
}}
"""


class Nginx:
    name = "nginx"

    def __init__(self, directory, nopush="off", piece="2m"):
        self.directory = Path(directory)
        (self.directory / "root").mkdir(parents=True)
        self.port = free_port()
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        user = "root" if os.geteuid() == 0 else "nobody"
        (self.directory / "conf").write_text(NGINX.format(
            folder=self.directory, port=self.port, user=user, descriptors=descriptors,
            connections=descriptors - 100, nopush=nopush, piece=piece))
        self.process = None

    def add(self, target, content_of):
        """Serves a copy of that file at the target."""
        path = self.directory / "root" / target.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(content_of, path)
        return target

    def start(self):
        command = ["/usr/sbin/nginx", "-p", self.directory, "-c", self.directory / "conf", "-e",
                   self.directory / "error.log"]
        self.process = subprocess.Popen(usage.on_core(usage.SERVER_CORE, command), env=clean_environment(),
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with ending(self):
            wait_until(lambda: is_open(self.port) and len(list(usage.family(self.pid))) > 1, "nginx to answer")
        return self

    @property
    def pid(self):
        return self.process.pid

    def processor_seconds(self):
        return usage.processor_seconds(self.pid)

    def end(self):
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


def is_open(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Peer(Synapse):
    """Synapse with its own media repository, on SQLite, quiet, and with every limit on media lifted."""

    name = "Synapse"

    def __init__(self, directory):
        super().__init__(directory, enable_media_repo=True, media_store_path=str(Path(directory) / "media"),
                         max_upload_size="1G", rc_media_create=UNLIMITED, max_pending_media_uploads=100000000,
                         remote_media_download_burst_count="100G", url_preview_enabled=False,
                         presence={"enabled": False})
        log = json.loads((self.directory / "log.yaml").read_text())
        log["root"]["level"] = "WARNING"
        self._write("log.yaml", log)

    def start(self):
        command = [place.SYNAPSE_PYTHON, "-m", "synapse.app.homeserver", "--config-path", self.config_file]
        if not (self.directory / "signing.key").exists():
            subprocess.run([*map(str, command), "--generate-keys"], cwd=self.directory, env=clean_environment(),
                           check=True, capture_output=True)
        self.run(usage.on_core(usage.SERVER_CORE, command), self._answers, timeout=60)
        return self

    @property
    def pid(self):
        return self.process.pid

    def processor_seconds(self):
        return usage.processor_seconds(self.pid)

    def end(self):
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


class Relay:
    """Two loopback hops and nothing else."""

    name = "relay"

    def __init__(self):
        self.process = subprocess.Popen(usage.on_core(usage.SERVER_CORE, [place.program("relay")]),
                                        stdout=subprocess.PIPE, text=True)
        self.port = json.loads(self.process.stdout.readline())["port"]

    @property
    def pid(self):
        return self.process.pid

    def processor_seconds(self):
        return usage.processor_seconds(self.pid)

    def end(self):
        self.process.kill()
        self.process.wait()

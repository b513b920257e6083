# SPDX-License-Identifier: Apache-2.0
"""A real Synapse, on SQLite and loopback, in a folder of its own. Its media repository is off: Sluice has the media."""

import contextlib
import hashlib
import hmac
import json
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass

from harness import clean_environment, seconds
from processes import Program, free_port

SERVER_NAME = "stack.test"
REGISTRATION_SECRET = "only the tests register by this"
UNLIMITED = {"per_second": 10000, "burst_count": 10000}

LOG_CONFIG = {
    "version": 1,
    "formatters": {"plain": {"format": "%(asctime)s %(name)s %(levelname)s %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"level": "INFO", "handlers": ["console"]},
    "disable_existing_loggers": False,
}


@dataclass
class User:
    user_id: str
    access_token: str
    device_id: str
    password: str

    @property
    def localpart(self):
        return self.user_id[1:].split(":")[0]


class ApplicationService:
    """What a bridge and Synapse know of each other."""

    sender = f"@bridge:{SERVER_NAME}"
    namespace = f"@bridge_.*:{SERVER_NAME}"

    def __init__(self):
        self.port = free_port()
        self.as_token = "as_token_of_the_bridge_5d1c7"
        self.hs_token = "hs_token_of_the_bridge_91e20"

    def registration(self):
        return {
            "id": "bridge", "url": f"http://127.0.0.1:{self.port}", "as_token": self.as_token,
            "hs_token": self.hs_token, "sender_localpart": "bridge", "rate_limited": False,
            "namespaces": {"users": [{"regex": self.namespace, "exclusive": True}]},
        }


class MatrixError(Exception):
    def __init__(self, status, body):
        super().__init__(f"{status} {body}")
        self.status = status
        self.body = body
        self.errcode = body.get("errcode")


def call(url, method, path, token=None, body=None, timeout=20):
    """One JSON request. Raises MatrixError for any status but 200."""
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data=data, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=seconds(timeout)) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        text = error.read()
        with contextlib.suppress(ValueError):
            raise MatrixError(error.code, json.loads(text)) from None
        raise MatrixError(error.code, {"error": text.decode("utf-8", "replace")}) from None


class Synapse(Program):
    def __init__(self, directory, **overrides):
        super().__init__(directory)
        self.bridge = ApplicationService()
        self._users = {}
        self._lock = threading.Lock()
        self._write_configuration(overrides)

    def _write(self, name, content):
        (self.directory / name).write_text(json.dumps(content, indent=2))  # JSON is YAML
        return str(self.directory / name)

    def _write_configuration(self, overrides):
        limits = {name: UNLIMITED for name in ("rc_message", "rc_registration", "rc_joins_per_room")}
        self.config_file = self._write("homeserver.yaml", {
            "server_name": SERVER_NAME,
            "listeners": [{"port": self.port, "bind_addresses": ["127.0.0.1"], "type": "http", "tls": False,
                           "x_forwarded": True, "resources": [{"names": ["client", "federation"]}]}],
            "database": {"name": "sqlite3", "args": {"database": str(self.directory / "homeserver.db")}},
            "log_config": self._write("log.yaml", LOG_CONFIG),
            "signing_key_path": str(self.directory / "signing.key"),
            "pid_file": str(self.directory / "pid"),
            "report_stats": False,
            "trusted_key_servers": [],
            "federation_domain_whitelist": [],
            "macaroon_secret_key": "stays the same when Synapse starts again",
            "registration_shared_secret": REGISTRATION_SECRET,
            "allow_guest_access": True,
            "enable_registration": True,
            "enable_registration_without_verification": True,
            "bcrypt_rounds": 4,
            "refreshable_access_token_lifetime": "3s",
            "app_service_config_files": [self._write("bridge.yaml", self.bridge.registration())],
            "enable_media_repo": False,
            **limits,
            "rc_login": {name: UNLIMITED for name in ("address", "account", "failed_attempts")},
            "rc_joins": {"local": UNLIMITED, "remote": UNLIMITED},
            **overrides,
        })

    # Process

    def start(self):
        command = [sys.executable, "-m", "synapse.app.homeserver", "--config-path", self.config_file]
        if not (self.directory / "signing.key").exists():
            subprocess.run([*command, "--generate-keys"], cwd=self.directory, env=clean_environment(), check=True,
                           capture_output=True)
        self.run(command, self._answers, timeout=60)
        return self

    def _answers(self):
        with contextlib.suppress(OSError), urllib.request.urlopen(self.url + "/health", timeout=1) as response:
            return response.status == 200

    def restart(self):
        self.stop()
        self.start()

    def pause(self):
        """It keeps its sockets and answers nothing: as a homeserver that hangs."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    # What it tells

    def requests(self, user_agent=None):
        """(method, path) of every request that it has answered, as its access log has them."""
        pattern = re.compile(r'synapse\.access\.http\.\d+ INFO .*?"(\w+) (\S+) HTTP/[\d.]+" "([^"]*)"')
        found = pattern.findall(self.log())
        return [(method, urllib.parse.urlsplit(path).path) for method, path, agent in found
                if user_agent is None or agent.startswith(user_agent)]

    # Users

    def tokens(self):
        """Those that it has handed out by `user`, and the bridge's."""
        return [self.bridge.as_token, *(user.access_token for user in self._users.values())]

    def call(self, method, path, token=None, body=None, **options):
        return call(self.url, method, path, token, body, **options)

    def register(self, name, admin=False):
        """By the shared secret, as Synapse's register_new_matrix_user does."""
        password = f"password of {name}"
        nonce = self.call("GET", "/_synapse/admin/v1/register")["nonce"]
        parts = [nonce, name, password, "admin" if admin else "notadmin"]
        mac = hmac.new(REGISTRATION_SECRET.encode(), "\0".join(parts).encode(), hashlib.sha1).hexdigest()
        told = self.call("POST", "/_synapse/admin/v1/register",
                         body={"nonce": nonce, "username": name, "password": password, "admin": admin, "mac": mac})
        return User(told["user_id"], told["access_token"], told["device_id"], password)

    def user(self, name, admin=False):
        """The user of that name; registered at its first use."""
        with self._lock:
            if name not in self._users:
                self._users[name] = self.register(name, admin)
            return self._users[name]

    def login(self, user, **extra):
        return self.call("POST", "/_matrix/client/v3/login", body={
            "type": "m.login.password", "identifier": {"type": "m.id.user", "user": user.user_id},
            "password": user.password, **extra})

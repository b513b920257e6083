# SPDX-License-Identifier: Apache-2.0
"""What the programs of the stack have in common: a port, a log, and an end."""

import random
import signal
import socket
import subprocess
from pathlib import Path

from harness import clean_environment, seconds, wait_until

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


class Program:
    """A program in a folder of its own, on a port of its own."""

    def __init__(self, directory):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True)
        self.log_file = self.directory / "log"
        self.port = free_port()
        self.process = None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def log(self):
        return self.log_file.read_text(errors="replace")

    def run(self, command, is_ready, timeout, environment=None):
        """Returns when `is_ready()`; ends the program if that does not come within the time."""
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(ends_with_us(command), cwd=self.directory, stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL, env=clean_environment(environment))

        def is_up():
            if self.process.poll() is not None:
                raise AssertionError(f"{command[0]} ended with {self.process.returncode}:\n{self.log()[-4000:]}")
            return is_ready()

        try:
            wait_until(is_up, f"{command[0]} to be ready", timeout)
        except BaseException:
            self.stop()
            raise

    def stop(self):
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGCONT)  # a paused one would not hear the other
        self.process.terminate()
        try:
            self.process.wait(seconds(20))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

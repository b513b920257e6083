# SPDX-License-Identifier: Apache-2.0
"""Runs a load generator on the load's core, and tells what it saw and what the server used meanwhile."""

import json
import os
import subprocess
import tempfile
from pathlib import Path

import place
import usage
from harness import clean_environment

# Above this share of its core the generator may have been what limited the figure.
BUSY = 0.9


class Load:
    """What one run of a generator said, with the server's processor time over the same span."""

    def __init__(self, said, server_seconds, generator_seconds):
        self.said = said
        self.server_seconds = server_seconds
        self.generator_share = generator_seconds / said["seconds"] if said.get("seconds") else 0.0

    def __getitem__(self, name):
        return self.said[name]

    @property
    def per_second(self):
        return self.said["requests"] / self.said["seconds"]

    @property
    def gigabytes_per_second(self):
        return self.said["bytes"] / self.said["seconds"] / 1e9

    @property
    def server_us_per_request(self):
        return self.server_seconds * 1e6 / self.said["requests"]

    @property
    def server_seconds_per_gigabyte(self):
        return self.server_seconds / (self.said["bytes"] / 1e9)

    def warning(self, who):
        if self.generator_share > BUSY:
            return (f"with {who} the generator used {self.generator_share:.0%} of its core: it may have been the limit of "
                    "the rate; the processor time stands")
        return None


def check(said):
    if said.get("broken") or said.get("refused") and any(said["refused"].values()):
        raise AssertionError(f"not every request was served: {said}")
    if said.get("requests") == 0 and said.get("bytes") == 0:
        raise AssertionError(f"no request was served: {said}")


def run(command, server):
    """Runs it to its end; its last line is a JSON object."""
    before = server.processor_seconds() if server else 0.0
    process = subprocess.Popen(usage.on_core(usage.LOAD_CORE, command), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL,
                               env=clean_environment(), text=True)
    output = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    after = server.processor_seconds() if server else 0.0
    if process.returncode != 0:
        raise AssertionError(f"{command[0]} ended with {process.returncode}: {output}")
    said = json.loads(output.splitlines()[-1])
    check(said)
    return Load(said, after - before, said.get("processor_seconds", used.ru_utime + used.ru_stime))


def options(values):
    return [f"{key}={value}" for key, value in values.items() if value is not None]


def wrk(server, target, token, connections, seconds):
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s",
               Path(__file__).with_name("wrk.lua"), "-H", f"Authorization: Bearer {token}",
               f"http://127.0.0.1:{server.port}{target}"]
    return run(command, server)


def http(server, targets, tokens=(), **values):
    """bench/load.cpp; `targets` and `tokens` are lists, or the path of a file with one in each line."""
    with tempfile.TemporaryDirectory() as folder:
        for name, lines in (("targets", targets), ("tokens", tokens)):
            if isinstance(lines, Path):
                values[name] = lines
            elif lines:
                values[name] = Path(folder) / name
                values[name].write_text("".join(line + "\n" for line in lines))
        return run([place.program("load"), *options({"port": server.port, **values})], server)


def live(server, **values):
    """bench/live.cpp."""
    return run([place.program("live"), *options({"port": server.port, **values})], server)

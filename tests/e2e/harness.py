# SPDX-License-Identifier: Apache-2.0
"""Runs the built server as a black box: a configuration in a folder of its own, a process, its log and its metrics.

Nothing here knows what is inside the program: readiness is a log line, state is a metric, a leak is what /proc shows.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("SLUICE_BINARY") or REPOSITORY / "build/release/sluice")
if not BINARY.is_absolute():
    BINARY = REPOSITORY / BINARY
SLOWDOWN = float(os.environ.get("SLUICE_TEST_SLOWDOWN") or 1)  # sanitizer builds and busy machines

# A sanitizer keeps what was freed, so that memory grows, and needs terabytes of address space, so that no limit on it holds.
IS_SANITIZED = BINARY.exists() and any(mark in BINARY.read_bytes() for mark in (b"__asan_init", b"__tsan_init"))

SERVER_NAME = "example.org"
ALICE = "tok_alice_7f3a91c2d4"
BOB = "tok_bob_51be0d9f83"
ADMIN = "tok_admin_e02c6a77b1"
TOKENS = [
    {"token": ALICE, "user": "@alice:example.org"},
    {"token": BOB, "user": "@bob:example.org"},
    {"token": ADMIN, "user": "@admin:example.org", "admin": True},
]

# Limits on what one user may do are lifted here; the tests of those limits set their own. Only the tests of thumbnails
# start workers.
BASE_CONFIG = {
    "listen": "127.0.0.1:0",
    "homeservers": [{"server_name": SERVER_NAME, "tokens": TOKENS}],
    "uploads": {"max_pending_per_user": 100000, "create_rate": {"per_second": 100000, "burst": 100000}},
    "thumbnails": {"workers": 0},
    "shutdown_grace": "10s",
    "metrics": {"listen": "127.0.0.1:0"},
}

SANITIZER_REPORT = re.compile(r"(AddressSanitizer|ThreadSanitizer|LeakSanitizer|runtime error:)[^\n]*")


def seconds(amount):
    """An upper bound for something that should be quick, scaled for slow builds."""
    return amount * SLOWDOWN


def wait_until(condition, what="the condition", timeout=10):
    """Polls until `condition()` is truthy and returns its value; fails with `what` after `timeout` seconds."""
    end = time.monotonic() + seconds(timeout)
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds(timeout):g} s in vain for {what}")
        time.sleep(0.005)


def merged(base, overrides):
    result = dict(base)
    for key, value in overrides.items():
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result


def clean_environment(extra=None):
    """The environment without SLUICE_ variables: to the program each of them is a setting."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
    environment.update(extra or {})
    return environment


class Metrics:
    """A scrape in Prometheus text form."""

    LINE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)")

    def __init__(self, text):
        self.text = text
        self.samples = []
        for line in text.splitlines():
            match = self.LINE.match(line)
            if match and not line.startswith("#"):
                labels = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', match.group(2) or ""))
                self.samples.append((match.group(1), labels, float(match.group(3))))

    def has(self, name):
        return any(sample[0] == name for sample in self.samples)

    def value(self, name, **labels):
        """The sum of the samples of `name` whose labels include `labels`; 0 if there is none."""
        return sum(v for n, have, v in self.samples if n == name and labels.items() <= have.items())


class Server:
    """One server process on a folder of its own. It can be stopped, killed and started again on the same data."""

    running = []  # every process that the current test may have touched

    def __init__(self, directory, environment=None, preexec=None, command=None, **overrides):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.data_dir = self.directory / "data"
        self.config = merged(merged(BASE_CONFIG, {"data_dir": str(self.data_dir)}), overrides)
        self.data_dir = Path(self.config["data_dir"])
        self.config_file = self.directory / "sluice.yaml"
        self.config_file.write_text(json.dumps(self.config, indent=2))  # JSON is YAML
        self.log_file = self.directory / "log"
        self.environment = clean_environment(environment)
        self.preexec = preexec
        self.command = command or (lambda: [str(BINARY), "serve", "--config", str(self.config_file)])
        self.process = None
        self.port = None
        self.metrics_port = None
        self.baseline = {}

    # Process

    def spawn(self):
        """Starts the process without waiting for it."""
        with open(self.log_file, "ab") as log:
            self.log_start = log.tell()
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory,
                env=self.environment, preexec_fn=self.preexec)
        Server.running.append(self)
        return self

    def start(self):
        self.spawn()
        wants_metrics = bool((self.config.get("metrics") or {}).get("listen"))

        def ready():
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended with {self.process.returncode} at its start:\n{self.log()}")
            listening = re.search(r"listening on http://[^\s:]+:(\d+)", self.log(this_run=True))
            metrics = re.search(r"metrics on http://[^\s:]+:(\d+)", self.log(this_run=True))
            if not listening or (wants_metrics and not metrics):
                return False
            self.port = int(listening.group(1))
            self.metrics_port = int(metrics.group(1)) if metrics else None
            return True

        try:
            wait_until(ready, "the server to listen", timeout=20)
        except AssertionError:
            self.kill()
            raise
        self.baseline = self.descriptors()
        return self

    @property
    def address(self):
        return ("127.0.0.1", self.port)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self):
        return self.process.pid

    @property
    def alive(self):
        return self.process is not None and self.process.poll() is None

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, timeout=20):
        return self.process.wait(seconds(timeout))

    def kill(self):
        """As power loss for the process: no chance to tidy up."""
        if self.alive:
            self.process.kill()
            self.process.wait()
        with contextlib.suppress(ValueError):
            Server.running.remove(self)

    def stop(self, expect=0, timeout=20):
        """SIGTERM; it has to end by itself, with the promised exit code and without a word from a sanitizer."""
        if self.alive:
            self.signal(signal.SIGTERM)
            try:
                code = self.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError("the server did not end after SIGTERM:\n" + self.log()[-3000:]) from None
        else:
            code = self.process.returncode
        with contextlib.suppress(ValueError):
            Server.running.remove(self)
        self.check_log()
        assert code == expect, f"exit code {code} instead of {expect}:\n{self.log()[-3000:]}"

    def reload(self, text=None, **overrides):
        """Changes the configuration file, or replaces its text, sends SIGHUP and returns what the log says of it."""
        if text is None:
            self.config = merged(self.config, overrides)
            text = json.dumps(self.config, indent=2)
        self.config_file.write_text(text)
        before = len(self.log())
        self.signal(signal.SIGHUP)
        end = re.compile("reload: the configuration (was read|stays as it was)[^\\n]*\\n")
        wait_until(lambda: end.search(self.log(), before), "the reload to be over")
        return self.log()[before:]

    # What it shows

    def log(self, this_run=False):
        with open(self.log_file, "rb") as log:
            log.seek(self.log_start if this_run else 0)
            return log.read().decode("utf-8", "backslashreplace")

    def metrics(self):
        from client import Wire  # the same small client as the tests; imported late, it needs this module
        with Wire(("127.0.0.1", self.metrics_port)) as wire:
            wire.send(b"GET /metrics HTTP/1.1\r\nHost: metrics\r\nConnection: close\r\n\r\n")
            response = wire.read_response()
        assert response.status == 200, response
        return Metrics(response.body.decode())

    def metric(self, name, **labels):
        return self.metrics().value(name, **labels)

    def wait_metric(self, name, expected, timeout=10, **labels):
        last = []

        def reached():
            last[:] = [self.metric(name, **labels)]
            return last[0] == expected

        try:
            wait_until(reached, f"{name} == {expected}", timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {last[0]:g}") from None

    def wait_stalled(self, count, timeout=10):
        self.wait_metric("sluice_stalled_downloads", count, timeout)

    def unfinished_files(self):
        """Of uploads that have not come whole. What has is named by its digest and goes within a second or so."""
        return [path for path in self.spool_files() if "." not in path.name]

    def spool_files(self):
        return sorted(path for path in (self.data_dir / "spool").rglob("*") if path.is_file())

    def blob_files(self):
        return sorted(path for path in (self.data_dir / "blobs").rglob("*") if path.is_file())

    def descriptors(self):
        """Open descriptors by kind. The catalog's own files come and go with its threads and are left out. Files that were
        downloaded stay open, some hundreds of them, but none of them twice."""
        kinds = {"socket": 0, "file": 0}
        blobs = set()
        try:
            names = os.listdir(f"/proc/{self.pid}/fd")
        except FileNotFoundError:
            return kinds
        for name in names:
            try:
                target = os.readlink(f"/proc/{self.pid}/fd/{name}")
            except FileNotFoundError:
                continue
            if target.startswith("socket:"):
                kinds["socket"] += 1
            elif "/blobs" in target and target not in blobs:
                blobs.add(target)
            elif "/spool" in target or "/blobs" in target or target.endswith("(deleted)"):
                kinds["file"] += 1
        return kinds

    def memory_kib(self, field, file="status"):
        for line in Path(f"/proc/{self.pid}/{file}").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1])
        raise KeyError(field)

    def thumbnail_workers(self):
        """The processes that make thumbnails."""
        children = []
        for task in os.listdir(f"/proc/{self.pid}/task"):
            with contextlib.suppress(FileNotFoundError):
                children += Path(f"/proc/{self.pid}/task/{task}/children").read_text().split()
        return [int(child) for child in children]

    # What must hold after every test

    def check_log(self):
        text = self.log()
        report = SANITIZER_REPORT.search(text)
        assert not report, f"sanitizer report in the log:\n{text[max(0, report.start() - 500):report.end() + 6000]}"
        for homeserver in self.config["homeservers"]:
            for entry in homeserver.get("tokens", []):
                assert entry["token"] not in text, f"the log holds a token ({entry['user']})"

    def check_clean(self):
        """Everything that the test began is over: nothing may stay of it. Its clients have closed their sockets."""
        self.check_log()
        if not self.alive:
            raise AssertionError(f"the server died with {self.process.returncode}:\n{self.log()[-5000:]}")
        wait_until(lambda: not self.unfinished_files(), f"a clean spool; it holds {self.unfinished_files()}", timeout=5)
        # As many connections to a homeserver may be kept for the next questions as were open at once.
        outbound = 64 if any("client_api" in homeserver for homeserver in self.config["homeservers"]) else 0
        workers = self.config["thumbnails"]["workers"]
        allowed = {"socket": self.baseline["socket"] + outbound + workers, "file": self.baseline["file"]}
        try:
            wait_until(lambda: all(self.descriptors()[kind] <= allowed[kind] for kind in allowed),
                       "the descriptors to return to the baseline", timeout=5)
        except AssertionError as error:
            links = [os.readlink(f"/proc/{self.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{self.pid}/fd")]
            raise AssertionError(f"{error}: {self.baseline} became {self.descriptors()}\n" + "\n".join(links)) from None

    def discard(self):
        """Ends the process in whatever state it is, and removes what it stored."""
        self.kill()
        shutil.rmtree(self.data_dir, ignore_errors=True)


def run_binary(*arguments, environment=None, timeout=20, **options):
    """Runs the program to its end and returns the CompletedProcess with text output."""
    return subprocess.run([str(BINARY), *map(str, arguments)], capture_output=True, text=True, check=False,
                          stdin=options.pop("stdin", subprocess.DEVNULL), env=clean_environment(environment),
                          timeout=seconds(timeout), **options)

# SPDX-License-Identifier: Apache-2.0
"""Fixtures. After every test `leaves_nothing_behind` looks at every server that the test used."""

import itertools
import os

import pytest

import client
from fakes import FakeHomeserver
from harness import BINARY, Server


def pytest_configure(config):
    config.addinivalue_line("markers", "slow(seconds): takes so long, mostly waiting; begins first")


def pytest_collection_modifyitems(items):
    """Lets what takes long begin first, shared out over the workers.

    pytest-xdist hands each worker a batch of consecutive tests first and the rest as they go, so the long ones stand
    at the beginning of these batches.
    """
    def seconds_of(item):
        marker = item.get_closest_marker("slow")
        return marker.args[0] if marker else 0

    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    batch = max(len(items) // workers // 4, 2)
    batches = [[] for _ in range(workers)]
    for item in sorted(filter(seconds_of, items), key=seconds_of, reverse=True):
        min(batches, key=lambda tests: sum(map(seconds_of, tests))).append(item)
    rest = [item for item in items if not seconds_of(item)]
    for tests in batches:
        missing = max(0, batch - len(tests))
        tests += rest[:missing]
        del rest[:missing]
    items[:] = [item for tests in batches for item in tests] + rest


def pytest_sessionstart(session):
    if not BINARY.exists():
        raise pytest.UsageError(f"no server at {BINARY}; build it with ./dev build or set SLUICE_BINARY")


class SharedServer:
    """One server with the base configuration for all tests of a worker that do not need their own."""

    def __init__(self, factory):
        self.factory = factory
        self.server = None

    def get(self):
        if self.server is None or not self.server.alive:
            self.server = Server(self.factory.mktemp("shared")).start()
        return self.server


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory):
    shared = SharedServer(tmp_path_factory)
    yield shared
    if shared.server is not None:
        shared.server.stop()
        shared.server.discard()


@pytest.fixture
def server(shared_server, leaves_nothing_behind):
    """A running server with the base configuration. Other tests use it too, one at a time: bring your own media ids."""
    running = shared_server.get()
    leaves_nothing_behind.append(running)
    return running


@pytest.fixture
def start_server(tmp_path, leaves_nothing_behind):
    """start_server(**overrides) starts a server of the test's own; at the end it has to stop with exit code 0."""
    numbers = itertools.count()

    def start(**overrides):
        running = Server(tmp_path / f"server{next(numbers)}", **overrides).start()
        leaves_nothing_behind.append(running)
        own.append(running)
        return running

    own = leaves_nothing_behind.own
    return start


class Used(list):
    """Servers that a test used; `own` are those that end with it."""

    def __init__(self):
        super().__init__()
        self.own = []


@pytest.fixture
def leaves_nothing_behind():
    used = Used()
    yield used
    client.close_everything()
    try:
        for running in used:
            if running in Server.running:  # not one that the test itself stopped or killed
                running.check_clean()
        for running in used.own:
            if running in Server.running:
                running.stop()
    finally:
        for running in used.own:
            running.discard()
        for running in used:
            if running not in used.own and not running.alive:
                running.discard()


@pytest.fixture
def homeserver():
    """A fake homeserver that answers whoami as the test says."""
    with FakeHomeserver() as fake:
        yield fake

# SPDX-License-Identifier: Apache-2.0
"""Fixtures: one stack for all tests of a worker. Tests bring users and media ids of their own."""

import itertools
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e")]

import client  # noqa: E402
from harness import BINARY, Server  # noqa: E402
from stack import Stack, sluice_beside  # noqa: E402
from homeserver import Synapse  # noqa: E402


def pytest_sessionstart(session):
    if not BINARY.exists():
        raise pytest.UsageError(f"no server at {BINARY}; ./dev test --stack builds it")


@pytest.fixture(scope="session")
def synapse(tmp_path_factory):
    running = Synapse(tmp_path_factory.mktemp("synapse") / "synapse").start()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def stack(tmp_path_factory, synapse):
    with Stack(synapse, tmp_path_factory.mktemp("stack"), demo=True) as running:
        yield running
        client.close_everything()
        running.sluice.check_clean()
        log = running.sluice.log()
        assert not [token for token in synapse.tokens() if token in log], "the log holds a token"


@pytest.fixture
def start_sluice(tmp_path, synapse):
    """start_sluice(**overrides) starts a Sluice of the test's own beside the same Synapse."""
    numbers = itertools.count()
    own = []

    def start(**overrides):
        running = sluice_beside(synapse, tmp_path / f"sluice{next(numbers)}", **overrides)
        own.append(running)
        return running

    yield start
    client.close_everything()
    try:
        for running in own:
            if running in Server.running:
                running.check_clean()
                running.stop()
    finally:
        for running in own:
            running.discard()


@pytest.fixture(autouse=True)
def closes_its_connections():
    yield
    client.close_everything()

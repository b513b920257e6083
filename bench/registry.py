# SPDX-License-Identifier: Apache-2.0
"""The cases by name, and what a case is given to run with."""

import contextlib
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import place
import servers

CASES = {}  # in the order of their definition, which is the order of the table


@dataclass
class Case:
    name: str
    about: str
    needs: tuple
    function: object


def case(name, about, needs=()):
    """Registers a function that takes a Bench and returns rows. `needs`: of synapse, valgrind, or a program's name."""
    def register(function):
        CASES[name] = Case(name, about, tuple(needs), function)
        return function
    return register


@dataclass
class Bench:
    """How thoroughly to measure, and the servers that cases share. They are ended when the bench is."""
    quick: bool = False
    rounds: int = 5
    check: bool = False
    record: bool = False
    is_chosen: bool = False  # cases were named, it is not the full run
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _peer: object = None

    def __enter__(self):
        place.DISK.mkdir(parents=True, exist_ok=True)
        self.folder = Path(self._stack.enter_context(
            tempfile.TemporaryDirectory(dir=place.DISK, prefix="run-", ignore_cleanup_errors=True)))
        return self

    def __exit__(self, *_):
        self._stack.close()

    def pick(self, full, quick):
        return quick if self.quick else full

    @contextlib.contextmanager
    def sluice(self, disk=None, **overrides):
        """A server of its own for as long as the block runs; on the disk, or in another folder."""
        with self.temporary_folder(disk) as folder:
            server = servers.Sluice(folder, **overrides).start()
            try:
                yield server
            finally:
                server.end()

    @contextlib.contextmanager
    def nginx(self, **settings):
        with self.temporary_folder() as folder:
            server = servers.Nginx(folder / "nginx", **settings).start()
            try:
                yield server
            finally:
                server.end()

    @contextlib.contextmanager
    def peer(self):
        """Synapse: started at its first use, then kept, and paused while nobody uses it."""
        if self._peer is None:
            self._peer = servers.Peer(self.folder / "synapse").start()
            self._stack.callback(self._peer.end)
        else:
            self._peer.resume()
        try:
            yield self._peer
        finally:
            self._peer.pause()

    @contextlib.contextmanager
    def temporary_folder(self, disk=None):
        folder = Path(tempfile.mkdtemp(dir=disk or self.folder, prefix="sluice-bench-"))
        try:
            yield folder
        finally:
            if disk:  # in memory, which is scarce
                shutil.rmtree(folder, ignore_errors=True)
            # Else it stays to the end: ext4 goes round the inodes of what was deleted in the last seconds, one by one.

    def in_turn(self, *sides):
        """Each side once, in as many rounds; every second round in reverse order."""
        for round_number in range(self.rounds):
            print(f"  round {round_number + 1} of {self.rounds}", file=sys.stderr, flush=True)
            for side in sides if round_number % 2 == 0 else reversed(sides):
                side()

# SPDX-License-Identifier: Apache-2.0
"""Cases that are programs of their own, bench/NAME.cpp: each prints one JSON object, and what is in it becomes rows."""

import json
import re
import subprocess

import place
from harness import clean_environment
from registry import case
from rows import Row, at_most

# A figure whose path has the pattern has that target; the others are shown as they are.
TARGETS = [
    (r"^waiting-room .*(?<!signal_)bytes_each$", at_most(300)),
    (r"^waiting-room .*wake_us: median$", at_most(10)),
    (r"^crowd .*private_bytes_each$", at_most(3072)),
    (r"^crowd .*all_served_ms$", at_most(2000)),
]
UNITS = [(r"_us(_|\b)", "µs"), (r"(_|\b)ms(_|\b)", "ms"), (r"per_second", "1/s"), (r"seconds", "s"), (r"bytes", "bytes")]
# What they were told to do, and repeat.
SETTINGS = {"loops", "idle_seconds", "ids", "addresses", "waiters"}


def figures(told, path=()):
    """Pairs of a path and a number. In a list of objects the first number of each names it."""
    if isinstance(told, dict):
        for key, value in told.items():
            if key not in SETTINGS:
                yield from figures(value, (*path, key))
    elif isinstance(told, list):
        for item in told:
            (key, value), *rest = item.items()
            yield from figures(dict(rest), (*path, f"{value:,} {key}"))
    elif isinstance(told, (int, float)):
        yield ": ".join(path), told


def first_that_fits(pairs, text, fallback):
    return next((value for pattern, value in pairs if re.search(pattern, text)), fallback)


def row_of(name, path):
    return Row(name, path.replace("_", " "), first_that_fits(UNITS, path, ""),
               target=first_that_fits(TARGETS, f"{name} {path}", None))


def run_program(bench, program, arguments):
    name, rows = program.replace("_", "-"), {}
    for _ in range(min(bench.rounds, 3)):
        done = subprocess.run([place.program(program), *arguments], capture_output=True, text=True, check=False,
                              env=clean_environment(), stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            raise AssertionError(f"bench_{program} ended with {done.returncode}: {done.stderr[-2000:]}")
        for path, value in figures(json.loads(done.stdout)):
            rows.setdefault(path, row_of(name, path)).ours.append(value)
    return list(rows.values())


if (place.REPOSITORY / "bench/waiting_room.cpp").exists():
    @case("waiting-room", "a million waiters in the waiting room, no sockets")
    def waiting_room(bench):
        return run_program(bench, "waiting_room", bench.pick([], ["100000", "5000"]))


if (place.REPOSITORY / "bench/crowd.cpp").exists():
    @case("crowd", "100,000 stalled downloads in one process, whose threads have descriptors of their own")
    def crowd(bench):
        return run_program(bench, "crowd", bench.pick(["--pin"], ["--pin", "--idle-seconds", "1", "2000", "20000"]))

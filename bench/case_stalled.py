# SPDX-License-Identifier: Apache-2.0
"""Downloads of what nobody has uploaded yet: what each costs, and how soon all are served once the upload comes."""

import json
import resource
import subprocess
import time

import load
import place
import usage
from case_live import new_medium
from harness import clean_environment
from registry import case
from rows import Row, at_most

KIB = 1 << 10
# Of the server's descriptors: the catalog, listeners, files being opened (kDescriptorReserve in cli/serve.cpp), the rest
# of this case.
RESERVED = 1000


class Crowd:
    """bench/stalled.cpp."""

    def __init__(self, server, medium):
        command = [place.program("stalled"), *load.options({"port": server.port, **medium})]
        self.process = subprocess.Popen(usage.on_core(usage.LOAD_CORE, command), stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, env=clean_environment())

    def tell(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise AssertionError(f"the generator ended at {command!r} with {self.process.wait()}")
        return json.loads(answer)

    def end(self):
        self.process.kill()
        self.process.wait()


def counts(bench):
    most = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1] - RESERVED, bench.pick(19_000, 5_000))
    return [count for count in (1_000, 5_000, 10_000) if count < most] + [most]


@case("stalled", "as many stalled downloads as descriptors allow: memory, idle processor time, wake-up")
def stalled(bench):
    steps = counts(bench)
    memory = {count: Row("stalled", f"private memory each, {count:,} of them", "bytes", theirs=[2000],
                         yardstick="a bare parked connection", target=at_most(3 * KIB)) for count in steps}
    idle = Row("stalled", f"processor time while {steps[-1]:,} wait", "ms per s", target=at_most(10))
    served = Row("stalled", f"1 KiB to all {steps[-1]:,}", "s", target=at_most(2))
    opened = Row("stalled", "connections accepted", "1/s")
    for _ in range(bench.rounds if bench.quick else min(bench.rounds, 3)):
        with bench.sluice() as sluice:
            measure(bench, sluice, steps, memory, idle, served, opened)
    return [*memory.values(), idle, served, opened]


def measure(bench, sluice, steps, memory, idle, served, opened):
    # A first crowd that has gone: what grows once and stays (stacks, arenas, statements) is not a stalled download's. A
    # small one, because the room that it leaves on the heap is not counted for the first of the next.
    warm = Crowd(sluice, new_medium(sluice))
    warm.tell("open 20")
    sluice.wait_stalled(20)
    warm.end()
    sluice.wait_stalled(0)
    crowd = Crowd(sluice, new_medium(sluice))
    try:
        before = usage.private_bytes(sluice.pid)
        for count in steps:
            said = crowd.tell(f"open {count}")
            sluice.wait_stalled(count, timeout=60)
            memory[count].ours.append((usage.private_bytes(sluice.pid) - before) / count)
        opened.ours.append((steps[-1] - (steps[-2] if len(steps) > 1 else 0)) / said["seconds"])
        seconds = bench.pick(5, 1)
        used = sluice.processor_seconds()
        time.sleep(seconds)  # this is the measurement: what they cost while nothing happens
        idle.ours.append((sluice.processor_seconds() - used) * 1000 / seconds)
        served.ours.append(crowd.tell(f"serve {KIB}")["seconds"])
    finally:
        crowd.end()

# SPDX-License-Identifier: Apache-2.0
"""What a process uses, as the kernel tells it: processor time in nanoseconds, memory; and which core belongs to whom."""

import contextlib
import os
from pathlib import Path

CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE = CORES[0]
LOAD_CORE = CORES[-1]


def on_core(core, command):
    return ["taskset", "-c", str(core), *map(str, command)]


def family(pid):
    """The process and all below it."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            for child in (task / "children").read_text().split():
                yield from family(int(child))


def processor_seconds(pid):
    """Of the process, its threads and the processes below it, since they began. In user and kernel mode alike.

    schedstat counts nanoseconds; utime and stime of /proc/PID/stat would count ticks of 10 ms. Threads that have ended
    are not in it, and our servers end none under load.
    """
    total = 0
    for member in family(pid):
        for task in Path(f"/proc/{member}/task").iterdir():
            with contextlib.suppress(OSError):
                total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def memory_kib(pid, field, file="status"):
    for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise KeyError(field)


def private_bytes(pid):
    """What the process alone has written to, and so costs the machine."""
    return 1024 * memory_kib(pid, "Private_Dirty", "smaps_rollup")


def resident_bytes(pid):
    return 1024 * memory_kib(pid, "VmRSS")

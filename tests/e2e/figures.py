#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures what the server promises in numbers, and prints it as a Markdown table.

    python3 tests/e2e/figures.py            # all of it, about a minute
    python3 tests/e2e/figures.py stalled    # one of: stalled, delay, memory
"""

import contextlib
import os
import socket
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

from client import LiveUpload, Wire, create, download_path, request_bytes, store
from harness import BINARY, Server

STALLED = 5000
SLICES = 2000
GIB = 1 << 30


def descriptors_allowed():
    import resource
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    return limit


@contextlib.contextmanager
def running(**overrides):
    with tempfile.TemporaryDirectory(dir=os.environ.get("SLUICE_FIGURES_DIR")) as folder:
        server = Server(Path(folder) / "server", **overrides).start()
        try:
            yield server
        finally:
            server.stop(timeout=60)


def private_kib(server):
    return server.memory_kib("Private_Dirty", "smaps_rollup")


def stalled_memory():
    """Private memory per stalled download: what 5,000 of them add to the process."""
    count = min(STALLED, descriptors_allowed() - 500)
    with running() as server:
        mxcs = [create(server) for _ in range(count // 10)]
        # A first crowd, so that what grows once and stays (thread stacks, arenas) is not counted per download.
        for crowd in (200, count):
            before = private_kib(server)
            before_pss = server.memory_kib("Pss", "smaps_rollup")
            wires = []
            for number in range(crowd):
                wire = Wire(server)
                wire.send(request_bytes("GET", download_path(mxcs[number % len(mxcs)], timeout_ms=60000)))
                wires.append(wire)
            server.wait_stalled(crowd, timeout=60)
            dirty = (private_kib(server) - before) * 1024 / crowd
            pss = (server.memory_kib("Pss", "smaps_rollup") - before_pss) * 1024 / crowd
            for wire in wires:
                wire.close()
            server.wait_stalled(0, timeout=60)
    return [(f"private memory per stalled download, {count:,} of them", f"{dirty:,.0f} bytes (Pss {pss:,.0f})")]


def live_delay():
    """From just before send() of a slice to the arrival of its last byte at a reader, over one live transfer."""
    sizes = [1024 << (number % 5) for number in range(SLICES)]
    ends, total = [], 0
    for size in sizes:
        total += size
        ends.append(total)
    with running() as server:
        mxc = create(server)
        upload = LiveUpload(server, mxc, length=total + 1)
        reader = Wire(server)
        reader.send(request_bytes("GET", download_path(mxc)))
        arrivals = []
        arrived = threading.Condition()

        def read():
            count = 0
            for piece in reader.body_pieces(reader.read_head()):
                now = time.perf_counter()
                count += len(piece)
                with arrived:
                    while len(arrivals) < SLICES and count >= ends[len(arrivals)]:
                        arrivals.append(now)
                    arrived.notify()

        thread = threading.Thread(target=read)
        thread.start()
        data = os.urandom(max(sizes))
        sent = []
        for number, size in enumerate(sizes):
            sent.append(time.perf_counter())
            upload.send(data[:size])
            with arrived:
                assert arrived.wait_for(lambda number=number: len(arrivals) > number, 10), "a slice did not arrive"
            time.sleep(0.001)
        assert upload.finish(b"x").status == 200
        thread.join()
    # The first slice also opens the response; it is part of the story and counted.
    delays = sorted((there - begun) * 1e6 for begun, there in zip(sent, arrivals))
    return [(f"delay from byte sent to byte received, {SLICES:,} slices of 1 to 16 KiB: median",
             f"{statistics.median(delays):,.0f} µs"),
            ("the same, 99th percentile", f"{delays[int(SLICES * 0.99)]:,.0f} µs"),
            ("the same, worst", f"{delays[-1]:,.0f} µs")]


def peak_memory():
    """VmHWM of the server over a 1 GiB upload with one live reader."""
    with running(uploads={"max_size": "2GiB"}) as server:
        store(server, b"warm")
        idle = server.memory_kib("VmHWM")
        mxc = create(server)
        upload = LiveUpload(server, mxc, length=GIB)
        reader = Wire(server)
        reader.send(request_bytes("GET", download_path(mxc)))
        received = []

        def read():
            head = reader.read_head()
            received.append(sum(len(piece) for piece in reader.body_pieces(head)))

        thread = threading.Thread(target=read)
        thread.start()
        data = os.urandom(1 << 20)
        began = time.monotonic()
        for _ in range(GIB >> 20):
            upload.send(data)
        with contextlib.suppress(socket.timeout):
            upload.wire.socket.settimeout(120)
        assert upload.finish().status == 200
        thread.join()
        duration = time.monotonic() - began
        assert received == [GIB], received
        peak = server.memory_kib("VmHWM")
    return [("peak resident memory, 1 GiB upload with one live reader",
             f"{peak / 1024:.1f} MiB (idle: {idle / 1024:.1f} MiB)"),
            ("time of that upload and download", f"{duration:.1f} s")]


MEASUREMENTS = {"stalled": stalled_memory, "delay": live_delay, "memory": peak_memory}


def main():
    wanted = sys.argv[1:] or list(MEASUREMENTS)
    if unknown := set(wanted) - set(MEASUREMENTS):
        sys.exit(f"unknown: {', '.join(unknown)}; there are {', '.join(MEASUREMENTS)}")
    if not BINARY.exists():
        sys.exit(f"no server at {BINARY}; build it with ./dev build")
    print("| figure | measured |\n|---|---|")
    for name in wanted:
        for row in MEASUREMENTS[name]():
            print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()

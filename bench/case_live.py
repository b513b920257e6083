# SPDX-License-Identifier: Apache-2.0
"""What is read while it is uploaded: how late a byte is, how fast it is for how many readers, how long the end takes."""

import contextlib
import os

import load
import servers
import usage
from case_serving import beside_nginx
from client import create, download_path, upload_path
from harness import ALICE
from registry import case
from rows import Row, at_most, ratio_at_least, ratio_at_most

MIB = 1 << 20


def new_medium(server):
    """The targets of an id that nothing has been uploaded to."""
    mxc = create(server)
    return {"upload": upload_path(mxc), "download": download_path(mxc), "token": ALICE}


@case("live-delay", "a byte sent to that byte received, 16 KiB slices, one reader; beside a relay of two loopback hops")
def live_delay(bench):
    slices = bench.pick(10_000, 2_000)
    median = Row("live-delay", "median", "µs", yardstick="relay", target=ratio_at_most(3))
    worst = Row("live-delay", f"worst of {slices:,}", "µs", yardstick="relay", target=at_most(20_000))
    high = Row("live-delay", "99th percentile", "µs", yardstick="relay")
    processor = Row("live-delay", "processor time per slice", "µs", yardstick="relay")
    with bench.sluice() as sluice, contextlib.closing(Closing(servers.Relay())) as relay:

        def measure(side, server, **values):
            said = load.live(server, mode="delay", slices=slices, **values)
            for row, name in ((median, "median_us"), (high, "p99_us"), (worst, "worst_us")):
                getattr(row, side).append(said[name])
            getattr(processor, side).append(said.server_seconds * 1e6 / slices)

        bench.in_turn(lambda: measure("ours", sluice, **new_medium(sluice)),
                      lambda: measure("theirs", relay.server))
    return [median, high, worst, processor]


class Closing:
    def __init__(self, server):
        self.server = server

    def close(self):
        self.server.end()


@case("live-fanout", "a writer at full speed and 1 to 1,000 readers; beside nginx and the finished file")
def live_fanout(bench):
    every = []
    crowds = {1: 256, 10: 256, 100: 128, 1000: 32}  # MiB of the file
    with bench.sluice() as sluice, bench.nginx() as nginx:
        for readers, mebibytes in crowds.items():
            size = mebibytes * MIB // bench.pick(1, 8)
            case_of = f"{readers:,} readers" if readers > 1 else "1 reader"
            target = ratio_at_least(0.8) if readers >= 100 else None
            rate = Row("live-fanout", f"{case_of} of {size // MIB} MiB: bytes to all", "GB/s", yardstick="nginx",
                       target=target)
            processor = Row("live-fanout", f"{case_of}: processor time per GB", "s", yardstick="nginx")
            finished = beside_nginx(sluice, nginx, size, bench.folder)

            def measure(side, server, rate=rate, processor=processor, readers=readers, size=size, **targets):
                said = load.live(server, mode="crowd", readers=readers, size=size, **targets)
                getattr(rate, side).append(said.gigabytes_per_second)
                getattr(processor, side).append(said.server_seconds_per_gigabyte)
                rate.note(said.warning(server.name))

            def theirs(measure=measure, finished=finished):
                measure("theirs", nginx, download=finished, token=ALICE)

            bench.in_turn(lambda measure=measure: measure("ours", sluice, **new_medium(sluice)), theirs)
            every += [rate, processor]
    return every


@case("tail", "the last byte received after the last byte sent, 1 KiB to 256 MiB; beside store-and-forward")
def tail(bench):
    every = []
    with bench.sluice() as live, bench.sluice(downloads={"live": False}) as stored:
        for size in (1 << 10, 64 << 10, MIB, 16 * MIB, 256 * MIB):
            name = f"{size // MIB} MiB" if size >= MIB else f"{size >> 10} KiB"
            last = Row("tail", f"{name}: last byte", "ms", yardstick="downloads.live: false", target=at_most(50))
            almost = Row("tail", f"{name}: all but the last byte", "ms", yardstick="downloads.live: false")

            def measure(side, server, size=size, last=last, almost=almost):
                os.sync()  # what earlier rounds left to be written is not this round's
                said = load.live(server, mode="crowd", readers=1, size=size, **new_medium(server))
                getattr(last, side).append(said["tail_ms"])
                getattr(almost, side).append(said["almost_tail_ms"])

            bench.in_turn(lambda measure=measure: measure("ours", live),
                          lambda measure=measure: measure("theirs", stored))
            every += [last, almost]
        every.append(Row("tail", "peak resident memory after all that", "MiB", yardstick="downloads.live: false",
                         ours=[usage.memory_kib(live.pid, "VmHWM") / 1024],
                         theirs=[usage.memory_kib(stored.pid, "VmHWM") / 1024]))
    return every

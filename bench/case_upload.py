# SPDX-License-Identifier: Apache-2.0
"""Everything that comes in: one large upload, many small ones, ids without content."""

import os
import re
import subprocess
import time

import load
import place
import servers
import usage
from case_live import new_medium
from harness import clean_environment
from registry import case
from rows import Row, ratio_at_least

LARGE = 256 << 20
SMALL = 10 << 10
AT_ONCE = 64


def upload_once(server):
    medium = new_medium(server)
    return load.http(server, [medium["upload"]], [medium["token"]], method="PUT", body=LARGE, connections=1, count=1)


def dd_gigabytes_per_second(source, target):
    os.sync()
    began = time.monotonic()
    subprocess.run(usage.on_core(usage.SERVER_CORE, ["dd", f"if={source}", f"of={target}", "bs=1M", "conv=fsync"]),
                   check=True, capture_output=True)
    seconds = time.monotonic() - began
    target.unlink()
    return LARGE / seconds / 1e9


def openssl_gigabytes_per_second():
    command = ["openssl", "speed", "-mr", "-evp", "sha256", "-bytes", "16384", "-seconds", "1"]
    output = subprocess.run(usage.on_core(usage.SERVER_CORE, command), check=True, capture_output=True, text=True,
                            env=clean_environment()).stdout
    return float(re.search(r"\+F:\d+:[^:]+:([\d.]+)", output).group(1)) / 1e9


class UploadRows:
    """One large upload, with the server on one core or on all that there are: then another thread hashes."""

    def __init__(self, cores):
        self.disk = Row("upload", f"256 MiB to disk, {cores}", "GB/s", yardstick="dd conv=fsync", target=ratio_at_least(0.9))
        self.memory = Row("upload", f"256 MiB to tmpfs, {cores}", "GB/s", yardstick="openssl speed sha256",
                          target=ratio_at_least(0.8))
        self.processor = Row("upload", f"processor time per GB, to tmpfs, {cores}", "s", yardstick="sha256 alone")

    def all(self):
        return [self.disk, self.memory, self.processor]


@case("upload", "256 MiB with its SHA-256 and fsync; beside dd conv=fsync, and in memory beside openssl speed")
def upload(bench):
    alone, spread = UploadRows("one core"), UploadRows("all cores")
    source = place.MEMORY / f"sluice-bench-{os.getpid()}"
    source.write_bytes(os.urandom(LARGE))
    try:
        for rows, options in ((alone, {}), (spread, {"command": [place.BINARY]})):
            with bench.sluice(**options) as on_disk, bench.sluice(disk=place.MEMORY, **options) as in_memory:
                measure_uploads(bench, rows, on_disk, in_memory, source)
    finally:
        source.unlink()
    return alone.all() + spread.all()


def measure_uploads(bench, rows, on_disk, in_memory, source):
    def to_disk():
        os.sync()
        said = upload_once(on_disk)
        rows.disk.ours.append(LARGE / said["seconds"] / 1e9)
        rows.disk.note(said.warning("Sluice"))
        for blob in on_disk.blob_files():
            blob.unlink()  # 256 MiB a round would fill the disk

    def to_memory():
        said = upload_once(in_memory)
        rows.memory.ours.append(LARGE / said["seconds"] / 1e9)
        rows.memory.note(said.warning("Sluice"))
        rows.processor.ours.append(said.server_seconds / LARGE * 1e9)
        for blob in in_memory.blob_files():
            blob.unlink()

    def hash_alone():
        rows.memory.theirs.append(openssl_gigabytes_per_second())
        rows.processor.theirs.append(1 / rows.memory.theirs[-1])

    bench.in_turn(to_disk, lambda: rows.disk.theirs.append(dd_gigabytes_per_second(source, bench.folder / "dd")))
    bench.in_turn(to_memory, hash_alone)


def peer_tokens(peer):
    return [peer.user(f"bench{number}").access_token for number in range(AT_ONCE)]


def compare_posts(bench, name, target, limit, **values):
    """Both sides get the same POST from 64 users at once. Ours starts anew each round: ids that wait are counted."""
    seconds = bench.pick(4, 2)
    rate = Row(name, "requests", "1/s", yardstick="Synapse", target=ratio_at_least(limit))
    processor = Row(name, "processor time per request", "µs", yardstick="Synapse")
    delay = Row(name, "median time of a request", "ms", yardstick="Synapse")
    with bench.peer() as peer:
        tokens = peer_tokens(peer)

    def take(side, server, of_tokens):
        said = load.http(server, [target], of_tokens, method="POST", connections=AT_ONCE, seconds=seconds, **values)
        getattr(rate, side).append(said.per_second)
        getattr(processor, side).append(said.server_us_per_request)
        getattr(delay, side).append(said["median_us"] / 1000)
        rate.note(said.warning(server.name))

    def ours():
        with bench.sluice() as sluice:
            take("ours", sluice, [user["token"] for user in servers.USERS])

    def theirs():
        with bench.peer() as peer:
            take("theirs", peer, tokens)

    bench.in_turn(ours, theirs)
    return [rate, processor, delay]


@case("small-uploads", "10 KiB, 64 at once, durable; beside Synapse, which does not fsync", needs=["synapse"])
def small_uploads(bench):
    return compare_posts(bench, "small-uploads", "/_matrix/media/v3/upload", 10, body=SMALL)


@case("create", "ids, 64 at once, durable; beside Synapse", needs=["synapse"])
def create(bench):
    return compare_posts(bench, "create", "/_matrix/media/v1/create", 25)
